//! Payments judged by rules that change while they come: broadcast state, timers, a side output.
//!
//! ```sh
//! cargo run --example fraud_detection
//! ```
//!
//! A thief tries a stolen card with a small payment, and soon after makes a large one. What small, large and soon are, rules say, and these
//! change during the day. A payment is judged by the rules that hold at its event time.
//!
//! - [`BroadcastFunction`] takes payments by account, and rules, of which every worker has all.
//! - Rows and rules come in any order. So a payment is kept, and a timer just after its event time judges it: when the watermark has
//!   reached the timer, all rules and payments before it have come. The result is the same in both modes, with any number of workers.
//! - Payments without an amount are errors, and leave by an output of their own.

use std::error::Error;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill::EventStream;
use tidemill::operator::{Events, MapState, States, Timer, ValueState};
use tidemill::prelude::*;
use tidemill::process::{BroadcastContext, BroadcastFunction, Failed, ProcessResult, RuleContext, Rules};

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Payment {
    number: u32,
    account: u32,
    at: EventTime,
    cents: u64,
}

/// What is suspicious from a time on.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Rule {
    from: EventTime,
    small: u64,
    large: u64,
    within: Duration,
}

/// The numbers of the small and of the large payment.
type Alert = (u32, u32);

/// A moment later: when the watermark has reached it, everything up to the moment itself has come.
const MOMENT: Duration = Duration::from_micros(1);

struct FraudDetection {
    /// Payments that are not judged yet, in order of time.
    waiting: MapState<u32, (EventTime, u32), Payment>,
    /// The last small payment of an account.
    small: ValueState<u32, (EventTime, u32)>,
}

impl FraudDetection {
    fn new() -> Self {
        FraudDetection { waiting: MapState::new(), small: ValueState::new() }
    }
}

impl BroadcastFunction for FraudDetection {
    type Key = u32;
    type Row = Payment;
    type Rule = Rule;
    type RuleKey = EventTime;
    type RuleState = Rule;
    type Outputs = (Events<Alert>,);

    fn state(&mut self, states: &mut States<'_>) {
        states.add("waiting", &mut self.waiting);
        states.add("small", &mut self.small);
    }

    fn on_rule(
        &mut self,
        rule: Rule,
        rules: &mut Rules<Self>,
        _: &mut RuleContext<'_, Self::Outputs>,
    ) -> ProcessResult {
        rules.insert(rule.from, rule);
        Ok(())
    }

    fn on_record(
        &mut self,
        payment: Payment,
        _: &Rules<Self>,
        cx: &mut BroadcastContext<'_, Self>,
    ) -> ProcessResult {
        if payment.cents == 0 {
            return Err(format!("payment {} has no amount", payment.number).into());
        }
        cx.set_event_timer(payment.at + MOMENT);
        self.waiting.insert(cx.key, (payment.at, payment.number), payment);
        Ok(())
    }

    fn on_timer(
        &mut self,
        _: Timer,
        rules: &Rules<Self>,
        cx: &mut BroadcastContext<'_, Self>,
    ) -> ProcessResult {
        for ((at, number), payment) in self.waiting.drain_range(cx.key, ..(cx.time(), 0)) {
            let Some((_, rule)) = rules.range(..=at).next_back() else { continue };
            if payment.cents >= rule.large
                && let Some((small_at, small)) = self.small.remove(cx.key)
                && at.since(small_at) <= rule.within
            {
                cx.out.0.push(at, (small, number));
            }
            if payment.cents <= rule.small {
                self.small.insert(cx.key, (at, number));
            }
        }
        Ok(())
    }
}

type Alerts = (EventStream<Alert>, Stream<Failed<u32, Payment>>);

/// The part of the graph with the function.
fn detect(payments: EventStream<Payment>, rules: EventStream<Rule>) -> Alerts {
    payments
        .key_by(|payment| payment.account)
        .connect_broadcast(rules)
        .process_with_failed(FraudDetection::new)
}

const COUNT: u32 = 20_000;

/// Payments of 300 accounts, up to a minute out of order; every thousandth lacks its amount.
fn payments() -> impl Iterator<Item = Payment> {
    (0..COUNT).map(|number| {
        let scrambled = u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
        let second = i64::from(number) * 4 - (scrambled % 60) as i64;
        let cents = if number % 1_000 == 999 { 0 } else { 1 + scrambled % 100_000 };
        Payment { number, account: (scrambled % 299) as u32, at: EventTime::from_secs(second), cents }
    })
}

/// A rule for the morning, a stricter one, and one that lets nearly everything pass.
fn rules() -> [Rule; 3] {
    let rule = |hour: i64, small, large, minutes: u64| Rule {
        from: EventTime::from_secs(hour * 3_600 - 60),
        small,
        large,
        within: Duration::from_secs(minutes * 60),
    };
    [rule(0, 5_000, 80_000, 30), rule(8, 10_000, 60_000, 60), rule(16, 1_000, 99_000, 10)]
}

/// What a plain loop over all payments in order of time finds.
fn expected() -> Vec<Alert> {
    let mut payments: Vec<Payment> = payments().filter(|payment| payment.cents > 0).collect();
    payments.sort_by_key(|payment| (payment.account, payment.at, payment.number));
    let mut alerts = Vec::new();
    let mut small: Option<Payment> = None;
    for payment in payments {
        small = small.filter(|small| small.account == payment.account);
        let Some(rule) = rules().into_iter().rfind(|rule| rule.from <= payment.at) else { continue };
        if payment.cents >= rule.large
            && let Some(small) = small.take()
            && payment.at.since(small.at) <= rule.within
        {
            alerts.push((small.number, payment.number));
        }
        if payment.cents <= rule.small {
            small = Some(payment);
        }
    }
    alerts.sort_unstable();
    alerts
}

fn main() -> Result<(), Box<dyn Error>> {
    let expected = expected();
    for options in [Options::default(), Options::default().with_mode(Mode::Continuous)] {
        for workers in [1, 2, 4] {
            let graph = Graph::new("fraud detection");
            let payments = graph
                .source(memory(payments()))
                .with_watermark(|payment: &Payment| payment.at, Duration::from_secs(120));
            let rules = graph.source(memory(rules())).with_watermark(|rule: &Rule| rule.from, Duration::ZERO);
            let (alerts, failed) = detect(payments.boxed(), rules.boxed());
            let ((sink, found), (failed_sink, failures)) = (memory_sink(), memory_sink());
            alerts.sink(sink);
            failed.map(|failed| failed.error).sink(failed_sink);
            let mode = options.mode;
            graph.run(options.clone().with_workers(workers).with_max_records_per_epoch(1_000))?;
            let (mut found, failures) = (found.snapshot(), failures.snapshot());
            found.sort_unstable();
            println!("{mode}, {workers} workers: {} alerts, {} bad payments", found.len(), failures.len());
            assert_eq!(found, expected);
            assert_eq!(failures.len(), (COUNT / 1_000) as usize);
        }
    }
    Ok(())
}
