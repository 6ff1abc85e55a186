//! One graph in each file.

pub mod access_log;
pub mod alarms;
pub mod clicks_of_ads;
pub mod late_visits;
pub mod page_views;
pub mod paid_orders;
pub mod revenue;
pub mod sessions;
pub mod stock;
pub mod temperatures;
pub mod top_products;
pub mod totals;
pub mod two_sources;
pub mod unpaid_orders;
pub mod word_count;
