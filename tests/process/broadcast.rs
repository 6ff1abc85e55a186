//! Rules on a broadcast stream that change while rows come.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use tidemill::connectors::MemorySource;
use tidemill::operator::{Dealt, Events, MapState, Rows, States, Timer, ValueState};
use tidemill::prelude::*;
use tidemill::process::{BroadcastContext, BroadcastFunction, Failed, ProcessResult, RuleContext, Rules};
use tidemill::testing::{EpochInput, Harness, operator_of, three_phases};

use super::common::{MODES, assert_same, options, run, run_well, sorted, ways};
use super::function::{Row, at};

/// A rule by its number: a weight, or none to remove it.
type Rule = (u8, Option<i64>);

/// The key, how many rows it has had, the number of the row, and the sum of all weights.
type Weighed = (u8, u64, u32, i64);

/// Weighs each row by the rules that hold when the function gets it.
struct Weigh {
    seen: ValueState<u8, u64>,
}

impl Weigh {
    fn new() -> Self {
        Weigh { seen: ValueState::new() }
    }
}

impl BroadcastFunction for Weigh {
    type Key = u8;
    type Row = Row;
    type Rule = Rule;
    type RuleKey = u8;
    type RuleState = i64;
    type Outputs = (Rows<Weighed>, Rows<(u8, usize)>);

    fn state(&mut self, states: &mut States<'_>) {
        states.add("seen", &mut self.seen);
    }

    fn on_rule(
        &mut self,
        (number, weight): Rule,
        rules: &mut Rules<Self>,
        cx: &mut RuleContext<'_, Self::Outputs>,
    ) -> ProcessResult {
        match weight {
            Some(weight) if weight < 0 => return Err(format!("rule {number} weighs {weight}").into()),
            Some(weight) => rules.insert(number, weight),
            None => rules.remove(&number),
        };
        cx.out.1.push((number, rules.len()));
        Ok(())
    }

    fn on_record(
        &mut self,
        row: Row,
        rules: &Rules<Self>,
        cx: &mut BroadcastContext<'_, Self>,
    ) -> ProcessResult {
        if row.number == 13 {
            return Err("13".into());
        }
        let seen = self.seen.get_or_insert_with(cx.key, || 0);
        *seen += 1;
        cx.out.0.push((*cx.key, *seen, row.number, rules.iter().map(|(_, weight)| weight).sum()));
        Ok(())
    }
}

/// An epoch: its rules and the keys of its rows.
type Step = (Vec<Rule>, Vec<u8>);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let rules = proptest::collection::vec((0..4u8, proptest::option::of(0..100i64)), 0..3);
    let rows = proptest::collection::vec(0..5u8, 0..6);
    proptest::collection::vec((rules, rows), 1..12)
}

fn check(steps: &[Step]) {
    let (mut rules, mut seen) = (BTreeMap::<u8, i64>::new(), BTreeMap::<u8, u64>::new());
    let mut number = 100;
    let (mut inputs, mut expected) = (vec![], vec![]);
    for (changes, keys) in steps {
        for (rule, weight) in changes {
            match weight {
                Some(weight) => _ = rules.insert(*rule, *weight),
                None => _ = rules.remove(rule),
            }
        }
        let mut out: Vec<Weighed> = vec![];
        let mut rows = vec![];
        for key in keys {
            number += 1;
            let seen = seen.entry(*key).or_default();
            *seen += 1;
            out.push((*key, *seen, number, rules.values().sum()));
            rows.push(Dealt::new(*key, EventTime::MIN, Row { key: *key, time: 0, number }));
        }
        expected.push(out);
        inputs.push((changes.clone(), rows));
    }
    for mode in MODES {
        let graph = Graph::new("weigh");
        let rows = graph.source(memory(Vec::<Row>::new())).key_by(|row| row.key);
        let rules = graph.source(memory(Vec::<Rule>::new()));
        let (weighed, _) = rows.connect_broadcast(rules).process(Weigh::new);
        let epoch = |(rules, rows): &(Vec<Rule>, Vec<Dealt<u8, Row>>)| {
            let epoch = EpochInput::until(EventTime::MIN);
            // In micro-batch the rules of an epoch hold for all of its rows, whichever come first.
            match mode {
                Mode::MicroBatch => epoch.keyed(0, rows.clone()).broadcast(1, rules.clone()),
                Mode::Continuous => epoch.broadcast(1, rules.clone()).keyed(0, rows.clone()),
            }
        };
        let epochs: Vec<EpochInput> = inputs.iter().map(epoch).collect();
        three_phases(
            mode,
            &epochs,
            operator_of(weighed),
            |it: &mut Harness<_>| it.take::<Weighed>(0),
            &expected,
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn rules_by_epoch_agree_with_loops(steps in steps()) {
        check(&steps);
    }
}

/// A rule that holds from a time on: what it is about, that time, and the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Limit {
    about: u8,
    from: i64,
    limit: i64,
}

/// Says of each row how many limits hold at its event time, and what they sum up to. A timer waits for the rules up to that time.
struct Limits {
    rows: MapState<u8, (EventTime, u32), ()>,
}

impl BroadcastFunction for Limits {
    type Key = u8;
    type Row = Row;
    type Rule = Limit;
    type RuleKey = (u8, i64);
    type RuleState = i64;
    type Outputs = (Events<(u32, usize, i64)>,);

    fn state(&mut self, states: &mut States<'_>) {
        states.add("rows", &mut self.rows);
    }

    fn on_rule(
        &mut self,
        rule: Limit,
        rules: &mut Rules<Self>,
        _: &mut RuleContext<'_, Self::Outputs>,
    ) -> ProcessResult {
        rules.insert((rule.about, rule.from), rule.limit);
        Ok(())
    }

    fn on_record(&mut self, row: Row, _: &Rules<Self>, cx: &mut BroadcastContext<'_, Self>) -> ProcessResult {
        if cx.is_late() {
            return Err(format!("{row:?} is late at {}", cx.watermark()).into());
        }
        self.rows.insert(cx.key, (cx.time(), row.number), ());
        cx.set_event_timer(cx.time() + Duration::from_micros(1));
        Ok(())
    }

    fn on_timer(
        &mut self,
        _: Timer,
        rules: &Rules<Self>,
        cx: &mut BroadcastContext<'_, Self>,
    ) -> ProcessResult {
        for ((time, number), ()) in self.rows.drain_range(cx.key, ..(cx.time(), 0)) {
            let newest = |about: u8| rules.range((about, i64::MIN)..=(about, time.as_micros())).next_back();
            let limits: Vec<i64> = (0..4).filter_map(newest).map(|(_, limit)| *limit).collect();
            cx.out.0.push(time, (number, limits.len(), limits.iter().sum()));
        }
        Ok(())
    }
}

#[test]
fn rules_that_change_hold_from_their_time_in_all_ways() {
    let row = |n: u32| Row {
        key: (n % 7) as u8,
        time: i64::from(n) * 10 - 2_000 + i64::from(n * 37 % 90),
        number: n,
    };
    let rows: Vec<Row> = (0..400).map(row).collect();
    let rule = |n: i64| Limit { about: (n % 4) as u8, from: n * 97 - 2_000, limit: n * n };
    let rules: Vec<Limit> = (0..40).map(rule).collect();
    let wanted: Vec<(u32, usize, i64)> = rows
        .iter()
        .map(|row| {
            let newest = |about: u8| {
                let of = rules.iter().filter(|rule| rule.about == about && rule.from <= row.time);
                of.max_by_key(|rule| rule.from).map(|rule| rule.limit)
            };
            let limits: Vec<i64> = (0..4).filter_map(newest).collect();
            (row.number, limits.len(), limits.iter().sum())
        })
        .collect();
    for options in ways(&[0, usize::MAX], 40) {
        let graph = Graph::new("limits");
        let parts = |n: usize| rules.iter().skip(n).step_by(2).copied().collect::<Vec<_>>();
        let rules = graph
            .source(MemorySource::partitioned(vec![parts(0), parts(1)]))
            .with_watermark(|rule: &Limit| EventTime::from_micros(rule.from), Duration::ZERO);
        let rows = graph.source(memory(rows.clone())).with_watermark(at, Duration::from_micros(100));
        let (sink, table) = memory_sink();
        rows.key_by(|row| row.key)
            .connect_broadcast(rules)
            .process(|| Limits { rows: MapState::new() })
            .sink(sink);
        let what = format!("{options:?}");
        run_well(&graph, options);
        assert_same(&table.snapshot(), &wanted, &what);
    }
}

#[test]
fn each_worker_takes_all_rules_in_one_order() {
    for mode in MODES {
        let graph = Graph::new("weigh");
        let rules =
            (0..3).map(|part| (0..50).map(move |n| ((n * 7 + part) as u8, Some(i64::from(n)))).collect());
        let rules = graph.source(MemorySource::partitioned(rules.collect::<Vec<Vec<Rule>>>()));
        let rows = graph.source(memory(Vec::<Row>::new())).key_by(|row| row.key);
        let (_, taken) = rows.connect_broadcast(rules).process(Weigh::new);
        let (sink, table) = memory_sink();
        taken.sink(sink);
        run_well(&graph, options(mode, 4));
        let taken = sorted(table.snapshot());
        assert_eq!(taken.len(), 600);
        // With the number of rules that there were, each stands there four times: the orders are the same.
        assert!(taken.chunks(4).all(|of_one| of_one[0] == of_one[3]), "{mode}: {taken:?}");
    }
}

#[test]
fn failing_row_leaves_by_side_and_failing_rule_ends_query() {
    let graph = |rules: Vec<Rule>| {
        let graph = Graph::new("weigh");
        let row = |number| Row { key: 1, time: 0, number };
        let rows = graph.source(memory([12, 13, 14].map(row))).key_by(|row| row.key);
        let rules = graph.source(memory(rules));
        let ((weighed, taken), failed) = rows.connect_broadcast(rules).process_with_failed(Weigh::new);
        let ((sink, table), (failed_sink, failures)) = (memory_sink(), memory_sink());
        weighed.sink(sink);
        taken.sink(memory_sink().0);
        failed.sink(failed_sink);
        (graph, table, failures)
    };
    let (good, table, failures) = graph(vec![(1, Some(5))]);
    run_well(&good, options(Mode::MicroBatch, 2));
    assert_eq!(table.snapshot(), [(1, 1, 12, 5), (1, 2, 14, 5)]);
    let failures: Vec<Failed<u8, Row>> = failures.snapshot();
    assert_eq!((failures.len(), failures[0].key, failures[0].error.as_str()), (1, 1, "13"));
    let (bad, ..) = graph(vec![(4, Some(-1))]);
    let error = run(&bad, options(Mode::MicroBatch, 2)).unwrap_err().to_string();
    assert!(error.contains("rule 4 weighs -1") && error.contains("broadcast.rs:"), "{error}");
}

/// One run over the rules and the keys of new files.
fn run_once(
    place: &Path,
    run: usize,
    rules: &[(u8, i64)],
    keys: &[u8],
    workers: usize,
    mode: Mode,
) -> Vec<Weighed> {
    let write = |name: &str, lines: String| {
        let input = place.join(name);
        fs::create_dir_all(&input).unwrap();
        fs::write(input.join(run.to_string()), lines).unwrap();
        input.display().to_string()
    };
    let rules = write("rules", rules.iter().map(|(rule, weight)| format!("{rule} {weight}\n")).collect());
    let keys = write("keys", keys.iter().map(|key| format!("{key}\n")).collect());
    let graph = Graph::new("weigh");
    let rules = graph.source(text_files(rules)).uid("rules").map(|line| {
        let (rule, weight) = line.split_once(' ').unwrap();
        (rule.parse::<u8>().unwrap(), Some(weight.parse::<i64>().unwrap()))
    });
    let keys = graph.source(text_files(keys)).uid("keys");
    let rows = keys.map(|line| Row { key: line.parse().unwrap(), time: 0, number: 0 });
    let (weighed, taken) = rows.key_by(|row| row.key).connect_broadcast(rules).process(Weigh::new);
    let (sink, table) = memory_sink();
    weighed.uid("weigh").sink(sink);
    taken.sink(memory_sink().0);
    let options = Options::default().without_ctrl_c().with_mode(mode).with_workers(workers);
    let options = options.with_checkpoint(place.join("checkpoint")).with_trigger(Trigger::AvailableNow);
    graph.run(options).unwrap();
    sorted(table.snapshot())
}

#[test]
fn rules_are_there_after_restarts_with_other_workers() {
    for mode in MODES {
        let place = tempfile::tempdir().unwrap();
        let keys: Vec<u8> = (0..20).collect();
        let all = |seen: u64, sum: i64| keys.iter().map(|key| (*key, seen, 0, sum)).collect::<Vec<Weighed>>();
        let run = |number, rules: &[(u8, i64)], keys: &[u8], workers| {
            run_once(place.path(), number, rules, keys, workers, mode)
        };
        assert_eq!(run(0, &[(1, 10), (2, 20)], &[], 1), []);
        assert_eq!(run(1, &[], &keys, 2), all(1, 30), "{mode}");
        assert_eq!(run(2, &[(2, 25), (3, 1)], &[], 4), []);
        assert_eq!(run(3, &[], &keys, 4), all(2, 36), "{mode}");
        assert_eq!(run(4, &[], &keys, 1), all(3, 36), "{mode}");
    }
}
