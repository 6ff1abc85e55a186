//! Every operator of tables, and chains of several, each with the same in plain loops.

use std::collections::BTreeMap;

use tidemill::aggregate::{Count, Max, Sum};
use tidemill::table::{IntoChangelogTable, IntoTable, Table, TableKey, TableRow};
use tidemill::{RowChange, Stream};

use crate::model::{Command, Inputs, Rows, add, difference, group, join, map, semi, union};

/// A change of an output: its name, the row in words, and how many copies are added.
pub(crate) type Change = (String, String, i64);

/// The rows of outputs in words, with the number of their copies.
pub(crate) type Outputs = BTreeMap<(String, String), i64>;

/// The rows to which changes come.
pub(crate) fn content<'a>(changes: impl IntoIterator<Item = &'a Change>) -> Outputs {
    let mut outputs = Outputs::new();
    for (name, row, diff) in changes {
        add(&mut outputs, (name.clone(), row.clone()), *diff);
    }
    outputs
}

/// A table of the newest row.
pub(crate) fn newest(commands: &Stream<Command>, number: u8) -> Table<u32, u32> {
    let commands = commands.clone().filter(move |command| command.table == number);
    let keyed = commands.key_by(|command| command.key);
    keyed.into_table_with(|command| command.value).uid(&format!("newest-{number}"))
}

/// A table of a log of changes.
pub(crate) fn log(commands: &Stream<Command>) -> Table<u32, u32> {
    let log = commands.clone().filter(|command| command.table == 2);
    let log = log.map(|command| RowChange { row: value(command), diff: command.diff }).as_changes();
    let log = log.key_by(|change| change.row.0).into_changelog_table().uid("log");
    log.map(|_, row| row.1)
}

/// A table that is appended to.
pub(crate) fn appended(commands: &Stream<Command>) -> Table<u32, u32> {
    let appended = commands.clone().filter(|command| command.table == 3);
    let appended = appended.map(value).key_by(|row| row.0).into_append_table().uid("appended");
    appended.map(|_, row| row.1)
}

fn value(command: Command) -> (u32, u32) {
    (command.key, command.value.unwrap_or(0))
}

/// Collects outputs: as one stream of changes, or as what plain loops compute.
struct Outlets(Vec<Stream<Change>>);

impl Outlets {
    fn add<K: TableKey, V: TableRow>(&mut self, name: &'static str, table: &Table<K, V>) {
        let table = table.clone().uid(name);
        let words =
            move |change: RowChange<(K, V)>| (name.to_owned(), format!("{:?}", change.row), change.diff);
        self.0.push(table.changes().as_inserts().map(words).boxed());
    }
}

/// The changes of the outputs of all operators.
pub(crate) fn operators(commands: &Stream<Command>) -> Stream<Change> {
    let (a, b) = (newest(commands, 0), newest(commands, 1));
    let (log, appended) = (log(commands), appended(commands));
    let mut to = Outlets(Vec::new());
    let by_value = a.rekey(|key, value| (value % 4, key));
    to.add("map", &a.map(|key, value| (value + 1, *key)));
    to.add("filter", &b.filter(|key, value| (key + value) % 3 != 0));
    to.add("rekey", &by_value);
    to.add("join", &a.join(&b, |key, left, right| (*key, *left, *right)));
    to.add("join with itself", &log.join(&log, |_, left, right| (*left, *right)));
    to.add("left join", &a.left_join(&log, |_, left, right| (*left, right.copied())));
    to.add("semi join", &by_value.semi_join(&b));
    to.add("anti join", &appended.anti_join(&b));
    to.add("count", &by_value.count());
    to.add(
        "group",
        &log.group((Count::new(), Sum::of(|value: &u32| u64::from(*value)), Max::of(|value: &u32| *value))),
    );
    to.add("retracted", &log.group((Count::new(), Sum::of(|value: &u32| u64::from(*value)))));
    to.add("distinct", &appended.map(|_, value| value % 3).distinct());
    to.add("top k", &appended.top_k(2));
    to.add("union", &a.union(&log));
    to.add("difference", &appended.difference(&log));
    merged(to)
}

/// The same in plain loops.
pub(crate) fn operators_of(inputs: &Inputs) -> Outputs {
    let (a, b) = (inputs.newest(0), inputs.newest(1));
    let (log, appended) = (&inputs.log, &inputs.appended);
    let mut outputs = Outputs::new();
    let by_value = map(&a, |key, value| Some((value % 4, key)));
    put(&mut outputs, "map", map(&a, |key, value| Some((key, (value + 1, key)))));
    put(&mut outputs, "filter", map(&b, |key, value| ((key + value) % 3 != 0).then_some((key, value))));
    put(&mut outputs, "rekey", by_value.clone());
    put(&mut outputs, "join", join(&a, &b, |key, left, right| (*key, *left, *right)));
    put(&mut outputs, "join with itself", join(log, log, |_, left, right| (*left, *right)));
    let pairs = join(&a, log, |_, left, right| (*left, Some(*right)));
    let alone = map(&semi(&a, log, true), |key, left| Some((key, (left, None))));
    put(&mut outputs, "left join", union(&pairs, &alone, 1));
    put(&mut outputs, "semi join", semi(&by_value, &b, false));
    put(&mut outputs, "anti join", semi(appended, &b, true));
    put(&mut outputs, "count", group(&by_value, |rows| vec![rows.len()]));
    let aggregates = |rows: &[u32]| {
        let sum = rows.iter().map(|value| u64::from(*value)).sum::<u64>();
        vec![(rows.len(), sum, rows.iter().copied().max().unwrap())]
    };
    put(&mut outputs, "group", group(log, aggregates));
    let retracted =
        |rows: &[u32]| vec![(rows.len(), rows.iter().map(|value| u64::from(*value)).sum::<u64>())];
    put(&mut outputs, "retracted", group(log, retracted));
    let thirds = map(appended, |key, value| Some((key, value % 3)));
    let distinct = |rows: &[u32]| {
        let mut rows = rows.to_vec();
        rows.dedup();
        rows
    };
    put(&mut outputs, "distinct", group(&thirds, distinct));
    put(&mut outputs, "top k", group(appended, |rows| rows.iter().rev().take(2).copied().collect()));
    put(&mut outputs, "union", union(&a, log, 1));
    put(&mut outputs, "difference", difference(appended, log));
    outputs
}

/// The changes of chains of operators: with several exchanges, and one that leaves the region and comes back.
pub(crate) fn chains(commands: &Stream<Command>) -> Stream<Change> {
    let (a, b) = (newest(commands, 0), newest(commands, 1));
    let (log, appended) = (log(commands), appended(commands));
    let mut to = Outlets(Vec::new());
    // How many keys have a value, and for each of them the rows of the log under that number.
    let sizes = a.rekey(|key, value| (value, key)).count();
    let of_size = sizes.rekey(|value, size| (size as u32, value)).join(&log, |_, value, row| (*value, *row));
    to.add("sizes", &of_size);
    to.add("sums of sizes", &of_size.group(Sum::of(|row: &(u32, u32)| u64::from(row.0 + row.1))).count());
    let three = a.join(&b, |_, a, b| (*a, *b)).join(&appended, |_, (a, b), c| a + b + c);
    to.add("three", &three.rekey(|key, sum| (sum % 5, key)).distinct().top_k(3));
    // The changes of a table as the input of another one.
    let again = b.rekey(|key, value| (value % 4, key)).changes().key_by(|change| change.row.0);
    let again = again.into_changelog_table().uid("again-input").map(|_, (_, key)| key);
    to.add("again", &again.join(&a, |_, key, value| (*key, *value)));
    merged(to)
}

/// The same in plain loops.
pub(crate) fn chains_of(inputs: &Inputs) -> Outputs {
    let (a, b) = (inputs.newest(0), inputs.newest(1));
    let mut outputs = Outputs::new();
    let sizes = group(&map(&a, |key, value| Some((value, key))), |rows| vec![rows.len() as u32]);
    let by_size = map(&sizes, |value, size| Some((size, value)));
    let of_size = join(&by_size, &inputs.log, |_, value, row| (*value, *row));
    put(&mut outputs, "sizes", of_size.clone());
    put(&mut outputs, "sums of sizes", group(&of_size, |_| vec![1]));
    let three = join(&join(&a, &b, |_, a, b| (*a, *b)), &inputs.appended, |_, (a, b), c| a + b + c);
    let three = map(&three, |key, sum| Some((sum % 5, key)));
    let top = |rows: &[u32]| {
        let mut rows = rows.to_vec();
        rows.dedup();
        rows.into_iter().rev().take(3).collect()
    };
    put(&mut outputs, "three", group(&three, top));
    let again = map(&b, |key, value| Some((value % 4, key)));
    put(&mut outputs, "again", join(&again, &a, |_, key, value| (*key, *value)));
    outputs
}

fn merged(outlets: Outlets) -> Stream<Change> {
    outlets.0.into_iter().reduce(|merged, other| merged.union(other)).unwrap()
}

fn put<K: Ord + std::fmt::Debug, V: Ord + std::fmt::Debug>(
    outputs: &mut Outputs,
    name: &str,
    rows: Rows<K, V>,
) {
    for (row, copies) in rows {
        outputs.insert((name.to_owned(), format!("{row:?}")), copies);
    }
}
