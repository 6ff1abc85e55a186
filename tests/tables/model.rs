//! Tables as plain maps, computed as a whole.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Each key and row, with the number of its copies.
pub(crate) type Rows<K, V> = BTreeMap<(K, V), i64>;

/// A row of the input.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Command {
    /// Which input it is for: 0 and 1 are tables of the newest row, 2 is a log of changes, 3 is appended to.
    pub(crate) table: u8,
    pub(crate) key: u32,
    /// The value; none deletes the key of a table of the newest row.
    pub(crate) value: Option<u32>,
    /// What a log of changes adds.
    pub(crate) diff: i64,
}

/// The inputs.
#[derive(Clone, Default)]
pub(crate) struct Inputs {
    pub(crate) newest: [BTreeMap<u32, u32>; 2],
    pub(crate) log: Rows<u32, u32>,
    pub(crate) appended: Rows<u32, u32>,
}

impl Inputs {
    pub(crate) fn apply(&mut self, command: &Command) {
        let Command { table, key, value, diff } = *command;
        match (table, value) {
            (2, value) => add(&mut self.log, (key, value.unwrap_or(0)), diff),
            (3, value) => add(&mut self.appended, (key, value.unwrap_or(0)), 1),
            (table, Some(value)) => {
                self.newest[table as usize].insert(key, value);
            }
            (table, None) => {
                self.newest[table as usize].remove(&key);
            }
        }
    }

    pub(crate) fn after<'a>(commands: impl IntoIterator<Item = &'a Command>) -> Inputs {
        let mut inputs = Inputs::default();
        commands.into_iter().for_each(|command| inputs.apply(command));
        inputs
    }

    pub(crate) fn newest(&self, table: usize) -> Rows<u32, u32> {
        self.newest[table].iter().map(|(key, value)| ((*key, *value), 1)).collect()
    }
}

/// Random commands for `keys` keys. A log of changes deletes only rows that it has.
pub(crate) fn commands(seed: u64, keys: u32, count: usize) -> Vec<Command> {
    let mut random = Random(seed.wrapping_mul(2).wrapping_add(1));
    let mut inputs = Inputs::default();
    let command = |_| {
        let (table, key) = (random.below(4) as u8, random.below(keys.into()) as u32);
        let value = (random.below(4) > 0).then(|| random.below(9) as u32);
        let there = inputs.log.range((key, 0)..(key + 1, 0)).next().map(|(row, _)| *row);
        let command = match there {
            Some((key, value)) if table == 2 && random.below(2) == 0 => {
                Command { table, key, value: Some(value), diff: -1 }
            }
            _ => Command { table, key, value, diff: 1 + random.below(2) as i64 },
        };
        inputs.apply(&command);
        command
    };
    (0..count).map(command).collect()
}

pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

pub(crate) fn add<T: Ord>(rows: &mut BTreeMap<T, i64>, row: T, diff: i64) {
    let copies = rows.remove(&row).unwrap_or(0) + diff;
    if copies != 0 {
        rows.insert(row, copies);
    }
}

pub(crate) fn map<K: Ord + Clone, V: Ord + Clone, K2: Ord, W: Ord>(
    rows: &Rows<K, V>,
    function: impl Fn(K, V) -> Option<(K2, W)>,
) -> Rows<K2, W> {
    let mut mapped = Rows::new();
    for ((key, row), copies) in rows {
        if let Some(row) = function(key.clone(), row.clone()) {
            add(&mut mapped, row, *copies);
        }
    }
    mapped
}

pub(crate) fn join<K: Ord + Clone, V: Ord, W: Ord, U: Ord>(
    left: &Rows<K, V>,
    right: &Rows<K, W>,
    function: impl Fn(&K, &V, &W) -> U,
) -> Rows<K, U> {
    let mut pairs = Rows::new();
    for ((key, row), copies) in left {
        for ((other_key, other), others) in right {
            if key == other_key {
                add(&mut pairs, (key.clone(), function(key, row, other)), copies * others);
            }
        }
    }
    pairs
}

/// The rows whose key the other table has, or does not have.
pub(crate) fn semi<K: Ord + Clone, V: Ord + Clone, W: Ord>(
    left: &Rows<K, V>,
    right: &Rows<K, W>,
    is_anti: bool,
) -> Rows<K, V> {
    let is_there = |key: &K| right.keys().any(|(other, _)| other == key);
    let rows = left.iter().filter(|((key, _), _)| is_there(key) != is_anti);
    rows.map(|(row, copies)| (row.clone(), *copies)).collect()
}

pub(crate) fn union<K: Ord + Clone, V: Ord + Clone>(
    left: &Rows<K, V>,
    right: &Rows<K, V>,
    times: i64,
) -> Rows<K, V> {
    let mut both = left.clone();
    right.iter().for_each(|(row, copies)| add(&mut both, row.clone(), times * copies));
    both
}

pub(crate) fn difference<K: Ord + Clone, V: Ord + Clone>(
    left: &Rows<K, V>,
    right: &Rows<K, V>,
) -> Rows<K, V> {
    let mut rows = union(left, right, -1);
    rows.retain(|_, copies| *copies > 0);
    rows
}

/// What a function makes of the sorted rows of each key, with all their copies.
pub(crate) fn group<K: Ord + Clone, V: Ord + Clone, W: Ord>(
    rows: &Rows<K, V>,
    function: impl Fn(&[V]) -> Vec<W>,
) -> Rows<K, W> {
    let mut groups: BTreeMap<K, Vec<V>> = BTreeMap::new();
    for ((key, row), copies) in rows {
        let group = groups.entry(key.clone()).or_default();
        (0..*copies).for_each(|_| group.push(row.clone()));
    }
    let mut results = Rows::new();
    for (key, group) in groups {
        function(&group).into_iter().for_each(|row| add(&mut results, (key.clone(), row), 1));
    }
    results
}
