//! The records of a run, and by which row of the result one sees that a batch has been computed.

#![allow(clippy::indexing_slicing, reason = "a benchmark fails loudly")]

use std::collections::HashMap;

use super::{Digest, Sizes, TOP, Work, region_of};
use crate::generator::splitmix64;

/// A record that replaces the one of its id. What the other two are depends on the work.
///
/// | work | 1 | 2 |
/// |---|---|---|
/// | count, distinct | the group, the value | 0 |
/// | join, sum, deep | the customer | the amount, which grows from record to record |
/// | top | a number that grows from record to record | 0 |
pub type Record = (u64, u64, u64);

/// The records of a run. The first batch is all with which it begins.
#[derive(Debug)]
pub struct Schedule {
    /// What is computed.
    pub work: Work,
    /// How much of it.
    pub sizes: Sizes,
    /// All records.
    pub records: Vec<Record>,
    /// Where each batch ends.
    pub ends: Vec<usize>,
    /// The digest of a row that is new once the batch has been computed.
    pub expected: Vec<u64>,
    /// The sum of the digests of all rows at the end.
    pub answer: u64,
}

impl Schedule {
    /// The records of a run.
    #[must_use]
    pub fn new(work: Work, sizes: Sizes) -> Schedule {
        let mut model = Model::new(work, sizes);
        let (mut records, mut ends, mut expected) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..=sizes.warmup + sizes.rounds {
            let batch = if round == 0 { sizes.rows } else { sizes.batch };
            model.started.clear();
            for at in 0..batch {
                let id = (round == 0).then_some(at);
                records.push(model.step(id, at + 1 == batch));
            }
            ends.push(records.len());
            expected.push(records.last().map_or(0, |record| model.row_of(*record)));
        }
        Schedule { work, sizes, records, ends, expected, answer: model.answer() }
    }

    /// The number of the first record of a batch.
    #[must_use]
    pub fn begin(&self, round: usize) -> usize {
        if round == 0 { 0 } else { self.ends[round - 1] }
    }

    /// The records of a batch.
    #[must_use]
    pub fn batch(&self, round: usize) -> &[Record] {
        &self.records[self.begin(round)..self.ends[round]]
    }
}

/// Loops over arrays, which compute what the tables do.
struct Model {
    work: Work,
    sizes: Sizes,
    made: u64,
    /// By id.
    rows: Vec<(u64, u64)>,
    /// By group, value or customer: copies or the sum.
    totals: Vec<u64>,
    /// The sum of each region.
    regions: Vec<u64>,
    /// The totals of this batch's groups, when it began.
    started: HashMap<u64, u64>,
}

impl Model {
    fn new(work: Work, sizes: Sizes) -> Model {
        let totals = match work {
            Work::Count => sizes.groups(),
            Work::Distinct => sizes.rows.max(2),
            _ => sizes.customers(),
        };
        Model {
            work,
            sizes,
            made: 0,
            rows: Vec::with_capacity(sizes.rows as usize),
            totals: vec![0; totals as usize],
            regions: vec![0; sizes.regions() as usize],
            started: HashMap::new(),
        }
    }

    /// The next record: a new one of this id, or one that replaces another.
    fn step(&mut self, id: Option<u64>, is_last: bool) -> Record {
        self.made += 1;
        let mut random = splitmix64(self.made);
        let replaced = id.is_none();
        let id = id.unwrap_or(random % self.sizes.rows);
        let old = if replaced { Some(self.rows[id as usize]) } else { None };
        let places = self.totals.len() as u64;
        let new = match self.work {
            Work::Count | Work::Distinct => loop {
                random = splitmix64(random);
                let place = random % places;
                let now = self.totals[place as usize];
                let start = self.started.get(&place).copied().unwrap_or(now);
                let shows = if self.work == Work::Count { now + 1 != start } else { start == 0 && now == 0 };
                if old.is_none_or(|old| old.0 != place) && (!is_last || shows) {
                    break (place, 0);
                }
            },
            Work::Join => (splitmix64(random) % places, self.made),
            Work::Top(_) => (self.made, 0),
            // The orders of a customer stay with it.
            Work::Sum | Work::Deep => (splitmix64(id) % places, self.made),
        };
        if let Some((place, amount)) = old {
            self.change(place, amount.max(1).wrapping_neg());
            self.rows[id as usize] = new;
        } else {
            self.rows.push(new);
        }
        self.change(new.0, new.1.max(1));
        (id, new.0, new.1)
    }

    /// Adds to a total.
    fn change(&mut self, place: u64, added: u64) {
        if matches!(self.work, Work::Top(_) | Work::Join) {
            return;
        }
        let total = &mut self.totals[place as usize];
        self.started.entry(place).or_insert(*total);
        *total = total.wrapping_add(added);
        let region = &mut self.regions[region_of(place, self.sizes.regions()) as usize];
        *region = region.wrapping_add(added);
    }

    /// The digest of a row of the result to which a record belongs.
    fn row_of(&self, (id, place, amount): Record) -> u64 {
        let regions = self.sizes.regions();
        match self.work {
            Work::Count | Work::Sum => (place, self.totals[place as usize]).digest(),
            Work::Distinct => (place, ()).digest(),
            Work::Join => (id, (amount, (place, region_of(place, regions)))).digest(),
            Work::Top(size) => (group_of(id, self.sizes.rows, size), (place, id)).digest(),
            Work::Deep => {
                let region = region_of(place, regions);
                (region, self.regions[region as usize]).digest()
            }
        }
    }

    fn answer(&self) -> u64 {
        let records = (0..).zip(&self.rows).map(|(id, row)| (id, row.0, row.1));
        let places = (0..).zip(&self.totals).filter(|(_, total)| **total > 0).map(|(place, _)| (0, place, 0));
        let rows: Vec<Record> = match self.work {
            Work::Count | Work::Sum | Work::Distinct => places.collect(),
            Work::Join => records.collect(),
            Work::Top(size) => {
                let mut groups: HashMap<u64, Vec<Record>> = HashMap::new();
                records
                    .for_each(|it| groups.entry(group_of(it.0, self.sizes.rows, size)).or_default().push(it));
                groups.values_mut().for_each(|group| group.sort_by_key(|record| std::cmp::Reverse(record.1)));
                groups.into_values().flat_map(|group| group.into_iter().take(TOP)).collect()
            }
            Work::Deep => {
                let mut of_region: HashMap<u64, Record> = HashMap::new();
                places.for_each(|place| {
                    of_region.insert(region_of(place.1, self.sizes.regions()), place);
                });
                of_region.into_values().collect()
            }
        };
        rows.into_iter().fold(0, |sum: u64, record| sum.wrapping_add(self.row_of(record)))
    }
}

/// The group of a record, of which there are as many as it takes for groups of this size.
pub(crate) fn group_of(id: u64, rows: u64, size: u64) -> u64 {
    id % (rows / size).max(1)
}
