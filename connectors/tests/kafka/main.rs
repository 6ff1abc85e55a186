//! The Kafka source against a real broker: `ci/services.sh kafka -- cargo test -p tidemill-connectors --features kafka --test kafka`.
//!
//! The tests that restart the broker are `--ignored`, since they would disturb the others.
//!
//! Without a broker the tests say that they did not run; where `TIDEMILL_SERVICES=1` is set they fail instead.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod broker;
mod offsets;
mod restarts;
mod transactions;
mod whole;
