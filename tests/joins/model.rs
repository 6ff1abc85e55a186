//! What an interval join emits, by plain loops over all rows.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// A row of either side. The number tells rows apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) key: u8,
    pub(crate) time: i64,
    pub(crate) number: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Inner,
    Left,
    Right,
    Full,
    Semi,
    Anti,
}

pub(crate) const KINDS: [Kind; 6] =
    [Kind::Inner, Kind::Left, Kind::Right, Kind::Full, Kind::Semi, Kind::Anti];

/// A row of any kind of join: its event time, and the rows it is made of.
pub(crate) type Joined = (i64, Option<Row>, Option<Row>);

/// Rows that have come, and what has been emitted.
pub(crate) struct Model {
    kind: Kind,
    bounds: (i64, i64),
    left: Vec<Row>,
    right: Vec<Row>,
    emitted: BTreeSet<Joined>,
    watermark: i64,
}

impl Model {
    pub(crate) fn new(kind: Kind, bounds: (i64, i64)) -> Self {
        let (left, right, emitted) = (vec![], vec![], BTreeSet::new());
        Model { kind, bounds, left, right, emitted, watermark: i64::MIN }
    }

    fn matches(&self, left: &Row, right: &Row) -> bool {
        let apart = right.time - left.time;
        left.key == right.key && self.bounds.0 <= apart && apart <= self.bounds.1
    }

    /// An epoch with these rows that ends with that watermark. Returns what is emitted, and the late rows of both sides.
    pub(crate) fn epoch(
        &mut self,
        left: &[Row],
        right: &[Row],
        watermark: i64,
    ) -> (Vec<Joined>, Vec<Row>, Vec<Row>) {
        let is_late = |row: &&Row| row.time < self.watermark;
        let late = |rows: &[Row]| rows.iter().filter(is_late).copied().collect::<Vec<_>>();
        let (late_left, late_right) = (late(left), late(right));
        self.left.extend(left.iter().filter(|row| !is_late(row)));
        self.right.extend(right.iter().filter(|row| !is_late(row)));
        self.watermark = watermark;
        let all = self.all(watermark);
        let new = all.difference(&self.emitted).copied().collect();
        self.emitted = all;
        (new, late_left, late_right)
    }

    /// Everything that has been emitted when that watermark is reached.
    pub(crate) fn all(&self, watermark: i64) -> BTreeSet<Joined> {
        let mut all = BTreeSet::new();
        let pairs = matches!(self.kind, Kind::Inner | Kind::Left | Kind::Right | Kind::Full);
        for left in &self.left {
            let mut of_left = self.right.iter().filter(|right| self.matches(left, right)).peekable();
            let is_matched = of_left.peek().is_some();
            // The last right row that could match has been passed.
            let is_over = watermark == i64::MAX || left.time + self.bounds.1 < watermark;
            if pairs {
                all.extend(of_left.map(|right| (left.time.max(right.time), Some(*left), Some(*right))));
            }
            let is_alone = match self.kind {
                Kind::Left | Kind::Full | Kind::Anti => !is_matched && is_over,
                Kind::Semi => is_matched,
                Kind::Inner | Kind::Right => false,
            };
            if is_alone {
                all.insert((left.time, Some(*left), None));
            }
        }
        for right in &self.right {
            let is_matched = self.left.iter().any(|left| self.matches(left, right));
            let is_over = watermark == i64::MAX || right.time - self.bounds.0 < watermark;
            if matches!(self.kind, Kind::Right | Kind::Full) && !is_matched && is_over {
                all.insert((right.time, None, Some(*right)));
            }
        }
        all
    }
}
