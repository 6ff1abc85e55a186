//! The beginning and the end of a function: initial state, and the last call, across restarts.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tidemill::operator::{Rows, States, ValueState};
use tidemill::prelude::*;
use tidemill::process::{CloseContext, InitialState, ProcessContext, ProcessFunction, ProcessResult};

use super::common::{MODES, sorted};

/// Sums by key; emits each sum, and at the end how many keys there are.
struct Sums {
    sums: ValueState<u64, u64>,
}

impl ProcessFunction for Sums {
    type Key = u64;
    type Row = u64;
    type Outputs = (Rows<(u64, u64)>, Rows<usize>);

    fn state(&mut self, states: &mut States<'_>) {
        states.add("sums", &mut self.sums);
    }

    fn on_record(&mut self, row: u64, cx: &mut ProcessContext<'_, Self>) -> ProcessResult {
        let sum = self.sums.get_or_insert_with(cx.key, || 0);
        *sum += row;
        cx.out.0.push((*cx.key, *sum));
        Ok(())
    }

    fn on_close(&mut self, cx: &mut CloseContext<'_, Self::Outputs>) -> ProcessResult {
        cx.out.1.push(self.sums.len());
        Ok(())
    }
}

impl InitialState for Sums {
    type Initial = u64;

    fn on_initial(&mut self, sum: u64, cx: &mut ProcessContext<'_, Self>) -> ProcessResult {
        if sum == 0 {
            return Err("a sum of nothing".into());
        }
        *self.sums.get_or_insert_with(cx.key, || 0) += sum;
        Ok(())
    }
}

/// The sums, and the numbers of keys at the end.
type Found = (Vec<(u64, u64)>, Vec<usize>);

/// One run over the numbers below 10, from a file if there may be more of them.
fn run_once(
    place: &Path,
    file: Option<usize>,
    initial: Vec<(u64, u64)>,
    (workers, mode): (usize, Mode),
) -> Result<Found, RunError> {
    let graph = Graph::new("sums");
    let numbers = match file {
        Some(file) => {
            let input = place.join("in");
            fs::create_dir_all(&input).unwrap();
            fs::write(input.join(file.to_string()), (0..10).map(|n| format!("{n}\n")).collect::<String>())
                .unwrap();
            let lines = graph.source(text_files(input.display().to_string())).uid("in");
            lines.map(|line| line.parse::<u64>().unwrap()).boxed()
        }
        None => graph.source(memory(0..10u64)).uid("in").boxed(),
    };
    let numbers = numbers.with_watermark(|n| EventTime::from_secs(*n as i64), Duration::ZERO);
    let (sums, ends) =
        numbers.key_by(|n| n % 5).with_initial_state(initial).process(|| Sums { sums: ValueState::new() });
    let ((sink, rows), (ends_sink, ended)) = (memory_sink(), memory_sink());
    sums.uid("sums").sink(sink);
    ends.sink(ends_sink);
    let options = Options::default().without_ctrl_c().with_mode(mode).with_workers(workers);
    let options = options.with_checkpoint(place.join("checkpoint"));
    let options = if file.is_some() { options.with_trigger(Trigger::AvailableNow) } else { options };
    graph.run(options)?;
    // The greatest sum of each key.
    let mut last = std::collections::BTreeMap::new();
    sorted(rows.snapshot()).into_iter().for_each(|(key, sum)| _ = last.insert(key, sum));
    Ok((last.into_iter().collect(), ended.snapshot()))
}

#[test]
fn initial_state_is_taken_in_the_first_epoch_only() {
    for mode in MODES {
        let place = tempfile::tempdir().unwrap();
        let initial = || vec![(1, 100), (3, 200), (1, 1_000), (9, 5)];
        for (run, workers) in [2, 4, 1].into_iter().enumerate() {
            let (sums, _) = run_once(place.path(), Some(run), initial(), (workers, mode)).unwrap();
            let times = run as u64 + 1;
            let first = [0, 1_100, 0, 200, 0];
            let expected = (0..5u64).map(|key| (key, first[key as usize] + times * (2 * key + 5)));
            assert_eq!(sums, expected.collect::<Vec<_>>(), "{mode}, run {run}");
        }
    }
}

#[test]
fn failing_initial_state_names_key_and_line() {
    let place = tempfile::tempdir().unwrap();
    let error = run_once(place.path(), None, vec![(3, 0)], (2, Mode::MicroBatch)).unwrap_err().to_string();
    assert!(error.contains("key 3: a sum of nothing") && error.contains("lifecycle.rs:"), "{error}");
}

#[test]
fn function_closes_once_and_not_when_it_resumes_after_the_end() {
    for mode in MODES {
        let place = tempfile::tempdir().unwrap();
        let first = run_once(place.path(), None, vec![(7, 1)], (2, mode)).unwrap();
        assert_eq!((first.0.len(), first.1.len(), first.1.iter().sum::<usize>()), (5, 2, 6), "{mode}");
        let second = run_once(place.path(), None, vec![(7, 1)], (4, mode)).unwrap();
        assert_eq!(second, (vec![], vec![]), "{mode}");
    }
}
