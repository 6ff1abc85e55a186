//! What a checkpoint shows of a key.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidemill::checkpoint::{LocalDirectory, inspect};
use tidemill::operator::{ListState, MapState, Rows, States, ValueState};
use tidemill::prelude::*;
use tidemill::process::{ProcessContext, ProcessFunction, ProcessResult};

use super::common::MODES;

/// A key with parts.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
struct Account {
    bank: String,
    number: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Last {
    Nothing,
    Payment { amount: i64 },
}

/// Keeps something of every kind.
struct Keeps {
    last: ValueState<Account, Last>,
    amounts: ListState<Account, i64>,
    by_day: MapState<Account, String, u64>,
}

impl ProcessFunction for Keeps {
    type Key = Account;
    type Row = (u32, i64);
    type Outputs = (Rows<()>,);

    fn state(&mut self, states: &mut States<'_>) {
        states.add("last", &mut self.last);
        states.add("amounts", &mut self.amounts);
        states.add("by-day", &mut self.by_day);
    }

    fn on_record(&mut self, (_, amount): (u32, i64), cx: &mut ProcessContext<'_, Self>) -> ProcessResult {
        self.last.insert(cx.key, if amount == 0 { Last::Nothing } else { Last::Payment { amount } });
        self.amounts.push(cx.key, amount);
        let day = if amount % 2 == 0 { "monday" } else { "sunday" };
        let before = self.by_day.get(cx.key, &day.to_owned()).copied().unwrap_or(0);
        self.by_day.insert(cx.key, day.to_owned(), before + 1);
        cx.set_event_timer(EventTime::from_secs(amount + 3_600));
        cx.set_processing_timer(cx.now() + Duration::from_secs(1_000_000));
        Ok(())
    }
}

fn account(number: u32) -> Account {
    Account { bank: "tide".to_owned(), number }
}

#[test]
fn key_is_shown_with_its_states_and_timers() {
    for mode in MODES {
        let place = tempfile::tempdir().unwrap();
        let input = place.path().join("in");
        std::fs::create_dir_all(&input).unwrap();
        std::fs::write(input.join("a"), "1 5\n2 7\n1 0\n1 6\n").unwrap();
        let graph = Graph::new("accounts");
        let rows = graph.source(text_files(input.display().to_string())).map(|line| {
            let (account, amount) = line.split_once(' ').unwrap();
            (account.parse::<u32>().unwrap(), amount.parse::<i64>().unwrap())
        });
        rows.with_watermark(|row| EventTime::from_secs(row.1), Duration::ZERO)
            .key_by(|row| account(row.0))
            .process(|| Keeps { last: ValueState::new(), amounts: ListState::new(), by_day: MapState::new() })
            .uid("keeps")
            .sink(memory_sink().0);
        let checkpoint = place.path().join("checkpoint");
        let options = Options::default().without_ctrl_c().with_mode(mode).with_workers(2);
        graph.run(options.with_checkpoint(&checkpoint).with_trigger(Trigger::AvailableNow)).unwrap();

        let storage = LocalDirectory::existing(&checkpoint).unwrap();
        let shown = inspect::of_key(&storage, None, "keeps", r#"{"number": 1, "bank": "tide"}"#).unwrap();
        let entries = |name: &str| -> Vec<(Value, Value)> {
            let at = |at: &Option<Value>| at.clone().unwrap_or_default();
            shown.states[name].iter().map(|entry| (at(&entry.at), entry.value.clone())).collect()
        };
        assert_eq!(shown.key, json!({"bank": "tide", "number": 1}));
        assert_eq!(entries("last"), [(Value::Null, json!({"Payment": {"amount": 6}}))], "{mode}");
        assert_eq!(
            entries("amounts").into_iter().map(|it| it.1).collect::<Vec<_>>(),
            [5, 0, 6].map(Value::from)
        );
        let by_day: BTreeMap<String, Value> = entries("by-day")
            .into_iter()
            .map(|(day, count)| (day.as_str().unwrap().to_owned(), count))
            .collect();
        assert_eq!(
            by_day,
            BTreeMap::from([("monday".to_owned(), json!(2)), ("sunday".to_owned(), json!(1))])
        );
        assert_eq!(shown.event_timers, [3_600, 3_605, 3_606].map(|secs| secs * 1_000_000));
        assert!(!shown.processing_timers.is_empty() && shown.location.contains("inspected.rs:"));
        let text = shown.to_string();
        for part in [
            "state last: {\"Payment\":{\"amount\":6}}",
            "timer at event time 1970-01-01",
            "timer at processing",
        ] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
        let other = inspect::of_key(&storage, None, "keeps", "\"none\"").unwrap();
        assert!(other.states.is_empty() && other.other_key.is_some() && shown.other_key.is_none());
        assert!(
            other.to_string().contains("no state and no timers; another key of the operator is "),
            "{other}"
        );
        let unknown = inspect::of_key(&storage, None, "keep", "1").unwrap_err().to_string();
        assert!(unknown.contains("no operator with the uid keep") && unknown.contains("keeps"), "{unknown}");
    }
}
