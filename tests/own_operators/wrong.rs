//! Mistakes are named before anything runs.

use std::vec::Drain;

use tidemill::connectors::{memory, memory_sink};
use tidemill::operator::{Dealt, Rows, StatefulOperator, States, Takes, Timers, To, ValueState};
use tidemill::{Graph, OperatorError, Run};

use crate::common::{MODES, options, run};

struct Twice {
    names: [&'static str; 2],
    states: [ValueState<u64, u64>; 2],
    fails: bool,
}

impl Twice {
    fn new(names: [&'static str; 2], fails: bool) -> Self {
        Twice { names, states: [ValueState::new(), ValueState::new()], fails }
    }
}

impl StatefulOperator for Twice {
    type Key = u64;
    type Outputs = (Rows<u64>,);

    fn state(&mut self, states: &mut States<'_>) {
        for (name, state) in self.names.into_iter().zip(&mut self.states) {
            states.add(name, state);
        }
    }
}

impl Takes<0> for Twice {
    type Row = Dealt<u64, u64>;

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        if self.fails {
            return Err(OperatorError::User("the operator fails".into()));
        }
        rows.for_each(|row| to.out.0.push(row.value));
        Ok(())
    }
}

fn graph(names: [&'static str; 2], fails: bool) -> Graph {
    let graph = Graph::new("twice");
    graph
        .operator("twice")
        .keyed(graph.source(memory(0..10u64)), |n| *n)
        .stateful(move |_| Twice::new(names, fails))
        .sink(memory_sink().0);
    graph
}

#[test]
fn names_of_states_are_checked_when_the_graph_is_built() {
    for (names, problem) in
        [(["a", "a"], "`a`"), (["a", ""], "``"), (["a", "b/c"], "`b/c`"), (["a", "timers"], "`timers`")]
    {
        let error = graph(names, false).validate().unwrap_err().to_string();
        assert!(error.contains(problem) && error.contains("wrong.rs:"), "{error}");
    }
    graph(["a", "b"], false).validate().unwrap();
}

/// Keeps timers itself, which would never fire.
struct OwnTimers(Timers<u64>);

impl StatefulOperator for OwnTimers {
    type Key = u64;
    type Outputs = (Rows<u64>,);

    fn state(&mut self, states: &mut States<'_>) {
        states.add("mine", &mut self.0);
    }
}

impl Takes<0> for OwnTimers {
    type Row = Dealt<u64, u64>;

    fn take(&mut self, rows: Drain<'_, Self::Row>, _: &mut To<'_, Self>) -> Result<(), OperatorError> {
        rows.for_each(|row| self.0.set_event(row.hashed(), row.time));
        Ok(())
    }
}

#[test]
fn timers_that_an_operator_keeps_itself_are_refused() {
    let graph = Graph::new("timers");
    let source = graph.source(memory(0..10u64));
    graph.operator("own").keyed(source, |n| *n).stateful(|_| OwnTimers(Timers::new())).sink(memory_sink().0);
    let error = graph.validate().unwrap_err().to_string();
    assert!(error.contains("`mine`") && error.contains("To::timers"), "{error}");
}

#[test]
fn error_of_operator_ends_query_with_its_line() {
    for mode in MODES {
        let error = run(&graph(["a", "b"], true), options(mode, 2)).unwrap_err().to_string();
        for part in ["the operator fails", "`twice`", "wrong.rs:"] {
            assert!(error.contains(part), "{part} is not in: {error}");
        }
    }
}

#[test]
fn upserts_are_refused_by_keyed_inputs() {
    let validated = |as_inserts: bool| {
        let graph = Graph::new("upserts");
        let counts = graph.source(memory(0..10u64)).key_by(|n| n % 2).count().update();
        let keys = counts.map(|(key, _)| key);
        let keys = if as_inserts { keys.as_inserts() } else { keys };
        let twice = graph.operator("twice").keyed(keys, |n| *n);
        twice.stateful(|_| Twice::new(["a", "b"], false)).sink(memory_sink().0);
        graph.validate().map_err(|error| error.problems)
    };
    let problems = validated(false).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].message.contains("emits upserts"), "{problems:?}");
    assert_eq!(problems[0].operator, "twice");
    assert_eq!(validated(true), Ok(()));
}

#[test]
fn inputs_of_another_graph_are_refused() {
    let (one, other) = (Graph::new("one"), Graph::new("other"));
    one.operator("twice")
        .keyed(other.source(memory(0..10u64)), |n| *n)
        .stateful(|_| Twice::new(["a", "b"], false))
        .sink(memory_sink().0);
    let error = one.validate().unwrap_err().to_string();
    assert!(error.contains("different graphs"), "{error}");
    assert!(one.run(options(MODES[0], 1)).is_err());
}
