//! Restarts: the same tables after them, whatever the number of workers and the mode; and no change is emitted twice.

use std::fs;
use std::path::Path;

use tidemill::connectors::text_files;
use tidemill::table::{IntoTable, Table, TableKey, TableRow};
use tidemill::testing::collecting_sink;
use tidemill::{Graph, Mode, RowChange, RunError, Stream};

use crate::common::{available_now, run};
use crate::graphs::{Change, chains, chains_of, content, newest, operators, operators_of};
use crate::loops::{loops, loops_of};
use crate::model::{Command, Inputs, commands, group, map};
use crate::results::assert_same;

/// Runs a graph once over the commands of all files, of which one is new.
fn run_once(
    place: &Path,
    new: (usize, &[Command]),
    (mode, workers): (Mode, usize),
    build: impl Fn(&Stream<Command>) -> Stream<Change>,
) -> Result<Vec<Change>, RunError> {
    let input = place.join("in");
    fs::create_dir_all(&input).unwrap();
    let lines = new.1.iter().map(|command| serde_json::to_string(command).unwrap() + "\n");
    fs::write(input.join(new.0.to_string()), lines.collect::<String>()).unwrap();
    let graph = Graph::new("tables");
    let (sink, changes) = collecting_sink();
    let lines = graph.source(text_files(input.display().to_string())).uid("in");
    build(&lines.map(|line| serde_json::from_str(&line).unwrap()).boxed()).sink(sink);
    let options = available_now(mode, workers).with_checkpoint(place.join("checkpoint")).with_allow_loss();
    run(&graph, options.with_max_records_per_epoch(50))?;
    Ok(changes.committed())
}

#[test]
fn restarts_on_other_workers_and_modes_keep_tables() {
    let ways = [
        (Mode::MicroBatch, 1),
        (Mode::MicroBatch, 3),
        (Mode::Continuous, 2),
        (Mode::Continuous, 4),
        (Mode::MicroBatch, 1),
    ];
    type Case = (fn(&Stream<Command>) -> Stream<Change>, fn(&Inputs) -> crate::graphs::Outputs);
    let cases: [Case; 3] = [(operators, operators_of), (chains, chains_of), (loops, loops_of)];
    for (seed, (build, expected)) in cases.into_iter().enumerate() {
        let place = tempfile::tempdir().unwrap();
        let commands = commands(20 + seed as u64, 20, 500);
        let (mut found, mut inputs) = (Vec::new(), Inputs::default());
        for (number, (part, way)) in commands.chunks(100).zip(ways).enumerate() {
            found.extend(run_once(place.path(), (number, part), way, build).unwrap());
            part.iter().for_each(|command| inputs.apply(command));
            assert_same(&content(&found), &expected(&inputs), &format!("run {number}, {way:?}"));
        }
    }
}

#[test]
fn new_output_of_a_table_begins_with_all_its_rows() {
    let commands = commands(40, 20, 200);
    for (mode, workers) in [(Mode::MicroBatch, 1), (Mode::MicroBatch, 2), (Mode::Continuous, 2)] {
        let place = tempfile::tempdir().unwrap();
        let mut found = Vec::new();
        for (number, part) in commands.chunks(100).enumerate() {
            // The second run has one output more than the first.
            let changes = run_once(place.path(), (number, part), (mode, workers), |commands| {
                let values = newest(commands, 0);
                let odd = words("odd", &values.filter(|_, value| value % 2 == 1).uid("odd"));
                if number == 0 {
                    return odd;
                }
                odd.union(words("counts", &values.rekey(|_, value| (value, ())).count().uid("counts")))
            });
            found.extend(changes.unwrap());
        }
        let values = Inputs::after(&commands).newest(0);
        let odd =
            values.keys().filter(|row| row.1 % 2 == 1).map(|row| ("odd".to_owned(), format!("{row:?}"), 1));
        let counts = group(&map(&values, |_, value| Some((value, ()))), |rows| vec![rows.len()]);
        let counts = counts.keys().map(|row| ("counts".to_owned(), format!("{row:?}"), 1));
        let expected: Vec<Change> = odd.chain(counts).collect();
        assert_same(&content(&found), &content(&expected), &format!("{mode}, {workers} workers"));
    }
}

/// The changes of a table in words.
fn words<K: TableKey, V: TableRow>(name: &'static str, table: &Table<K, V>) -> Stream<Change> {
    let words = move |change: RowChange<(K, V)>| (name.to_owned(), format!("{:?}", change.row), change.diff);
    table.changes().as_inserts().map(words).boxed()
}

/// The sum of values by key, with something added to each.
fn sums(commands: &Stream<Command>, added: u64) -> Stream<Change> {
    let keyed = commands.clone().key_by(|command| command.key);
    let table = keyed.into_table_with(|command| command.value).uid("values");
    let sums = table.map(move |_, value| u64::from(value) + added).uid("sums");
    words("sums", &sums)
}

#[test]
fn changed_function_of_a_table_is_refused_after_restart() {
    let commands = commands(30, 20, 200);
    for (mode, workers) in [(Mode::MicroBatch, 1), (Mode::MicroBatch, 2), (Mode::Continuous, 2)] {
        let place = tempfile::tempdir().unwrap();
        let run = |number, part, added| {
            run_once(place.path(), (number, part), (mode, workers), |commands| sums(commands, added))
        };
        run(0, &commands[..100], 0).unwrap();
        let error = run(1, &commands[100..], 1).unwrap_err();
        let RunError::Operator { site, error } = &error else { panic!("{error}") };
        assert!(site.location.contains("restarts.rs:"), "{}", site.location);
        assert!(error.to_string().contains("computed again from its inputs after the restart"), "{error}");
        // With the former function the run resumes.
        run(1, &commands[100..], 0).unwrap();
    }
}
