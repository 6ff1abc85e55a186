//! Ticks: in continuous mode changes are emitted before their epoch ends.

use std::time::Duration;

use tidemill::aggregate::Sum;
use tidemill::prelude::*;
use tidemill::testing::{ScriptedSource, SimClock, TestDriver, collecting_sink};
use tidemill::{EventTime, RowChange};

const PAUSE: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3_600);

fn added<T>(row: T) -> RowChange<T> {
    RowChange::insert(row)
}

fn removed<T>(row: T) -> RowChange<T> {
    RowChange::delete(row)
}

#[test]
fn continuous_mode_emits_changes_before_epoch_ends() {
    let graph = Graph::new("ticks");
    let at = EventTime::from_secs(0);
    let values = ScriptedSource::new().row(at, (1u32, 10u64)).pause(PAUSE);
    let values = values.row(at, (1, 20)).pause(PAUSE).row(at, (2, 5)).pause(HOUR).end();
    // Has nothing more to read, and its table takes part in each tick.
    let names = ScriptedSource::new().row(at, (1u32, 100u64)).row(at, (2, 200)).pause(HOUR).end();
    let values = values.stream(&graph).key_by(|row| row.0).into_table().map(|_, row| row.1);
    let names = names.stream(&graph).key_by(|row| row.0).into_table().map(|_, row| row.1);
    let sums = values.rekey(|_, value| ((), value)).group(Sum::of(|value: &u64| *value));
    let shares = values.rekey(|key, value| ((), (key, value)));
    let shares = shares.join(&sums, |_, (key, value), sum| (*key, *value, *sum));
    let named = values.join(&names, |_, value, name| value + name);
    let ((share_sink, share_rows), (named_sink, named_rows)) = (collecting_sink(), collecting_sink());
    shares.changes().sink(share_sink);
    named.changes().sink(named_sink);
    let options = Options::default().with_mode(Mode::Continuous).with_checkpoint_interval(HOUR * 2);
    let mut driver = TestDriver::new(&graph, options, &SimClock::new()).unwrap();

    driver.settle().unwrap();
    let mut expected = vec![added(((), (1, 10, 10)))];
    assert_eq!(share_rows.written(), expected);
    assert_eq!(named_rows.written(), [added((1, 110))]);

    driver.advance(PAUSE).unwrap();
    expected.extend([removed(((), (1, 10, 10))), added(((), (1, 20, 20)))]);
    assert_eq!(share_rows.written(), expected);

    driver.advance(PAUSE).unwrap();
    expected.extend([removed(((), (1, 20, 20))), added(((), (1, 20, 25))), added(((), (2, 5, 25)))]);
    assert_eq!(share_rows.written(), expected);
    let of_names = [added((1, 110)), removed((1, 110)), added((1, 120)), added((2, 205))];
    assert_eq!(named_rows.written(), of_names);
    assert!(share_rows.committed().is_empty(), "the epoch has not ended");
    driver.epoch().unwrap();
    driver.run_to_end().unwrap();
    assert_eq!(share_rows.committed(), expected);
}
