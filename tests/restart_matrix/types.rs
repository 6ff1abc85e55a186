//! Types: of states under every kind of operator, and of keys.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tidemill::connectors::MemorySink;
use tidemill::prelude::*;
use tidemill::{session, sliding, tumbling};

use super::{Change, Outcome, Program, Row, check, refused, right};

/// A state: what it is of a number, how two make one, and what it shows.
trait Value: Clone + Send + Sync + Serialize + DeserializeOwned + 'static {
    fn of(n: i64) -> Self;
    /// The least and the greatest number, however the type keeps them.
    fn range(&self) -> (i64, i64);
    fn with(low: i64, high: i64) -> Self;
}

struct Keep<T>(PhantomData<fn() -> T>);

impl<T> Clone for Keep<T> {
    fn clone(&self) -> Self {
        Keep(PhantomData)
    }
}

impl<T: Value> tidemill::Aggregate for Keep<T> {
    type In = i64;
    type Acc = T;
    type Out = (i64, i64);

    fn create(&self, n: &i64) -> T {
        T::of(*n)
    }
    fn add(&self, acc: &mut T, n: &i64) {
        self.merge(acc, T::of(*n));
    }
    fn merge(&self, acc: &mut T, other: T) {
        let ((low, high), (lower, higher)) = (acc.range(), other.range());
        *acc = T::with(low.min(lower), high.max(higher));
    }
    fn finish(&self, acc: &T) -> (i64, i64) {
        acc.range()
    }
    fn describe(&self) -> String {
        "keep".to_owned()
    }
}

fn keep<T>() -> Keep<T> {
    Keep(PhantomData)
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn running<T: Value>(numbers: Stream<i64>, sink: MemorySink<Row>) {
    let ranges = numbers.key_by(|n| n % 3).aggregate(keep::<T>()).update().uid("op");
    ranges.map(|(key, value)| (key.to_string(), format!("{value:?}"))).sink(sink);
}

fn total<T: Value>(numbers: Stream<i64>, sink: MemorySink<Row>) {
    let ranges = numbers.aggregate(keep::<T>()).update().uid("op");
    ranges.map(|value| (String::new(), format!("{value:?}"))).sink(sink);
}

macro_rules! windowed {
    ($($name:ident $window:expr, $output:ident;)+) => {$(
        fn $name<T: Value>(numbers: Stream<i64>, sink: MemorySink<Row>) {
            numbers
                .with_watermark(|n| EventTime::from_secs(*n), secs(20))
                .uid("time")
                .key_by(|n| n % 3)
                .window($window)
                .aggregate(keep::<T>())
                .$output()
                .uid("op")
                .map(|r| (format!("{} {}", r.key, r.window.start), format!("{:?}", r.value)))
                .sink(sink);
        }
    )+};
}

windowed! {
    tumbled tumbling(secs(50)), append;
    slid sliding(secs(60), secs(20)), update;
    sessions session(secs(5)), append;
}

/// Rows in the state of `collect`.
fn collected<T: Value>(numbers: Stream<i64>, sink: MemorySink<Row>) {
    numbers
        .with_watermark(|n| EventTime::from_secs(*n), secs(20))
        .uid("time")
        .map(|n| T::of(n))
        .key_by(|_| 0u8)
        .window(tumbling(secs(50)))
        .collect()
        .append()
        .uid("op")
        .map(|r| {
            (r.window.start.to_string(), format!("{:?}", r.value.iter().map(T::range).collect::<Vec<_>>()))
        })
        .sink(sink);
}

/// The same change under an operator of each kind of state: keys for ever, panes, sessions.
fn each<Old: Value, New: Value>(name: &'static str, outcome: fn() -> Outcome) -> Vec<Change> {
    let programs: [(Program, Program); 3] = [
        (running::<Old>, running::<New>),
        (tumbled::<Old>, tumbled::<New>),
        (sessions::<Old>, sessions::<New>),
    ];
    programs.into_iter().map(|(old, new)| Change { name, old, new, outcome: outcome() }).collect()
}

/// Structs that keep a range in two fields.
macro_rules! ranges {
    ($($(#[$type:meta])* $name:ident { $low:ident as $lt:ty, $high:ident as $ht:ty } { $($field:tt)* } { $($more:tt)* })+) => {$(
        #[derive(Clone, Serialize, Deserialize)]
        $(#[$type])*
        #[serde(rename = "Range")]
        struct $name { $($field)* }

        impl Value for $name {
            fn of(n: i64) -> Self {
                Self::with(n, n)
            }
            fn range(&self) -> (i64, i64) {
                (self.$low as i64, self.$high as i64)
            }
            fn with(low: i64, high: i64) -> Self {
                $name { $low: low as $lt, $high: high as $ht, $($more)* }
            }
        }
    )+};
}

ranges! {
    Range { low as u32, high as u32 } { low: u32, high: u32 } {}
    Swapped { low as u32, high as u32 } { high: u32, low: u32 } {}
    Wider { low as u32, high as i64 } { low: u32, high: i64 } {}
    Narrower { low as u32, high as u16 } { low: u32, high: u16 } {}
    Signed { low as i32, high as u32 } { low: i32, high: u32 } {}
    Float { low as f64, high as u32 } { low: f64, high: u32 } {}
    Counted { low as u32, high as u32 } { #[serde(default)] count: u64, low: u32, high: u32 } { count: 0 }
    Demanding { low as u32, high as u32 } { low: u32, count: u64, high: u32 } { count: 0 }
    Renamed { least as u32, high as u32 } { #[serde(alias = "low")] least: u32, high: u32 } {}
    Lost { least as u32, high as u32 } { least: u32, high: u32 } {}
    #[serde(deny_unknown_fields)]
    Strict { low as u32, high as u32 } { low: u32, high: u32 } {}
}

/// The range in one field, in other forms.
macro_rules! forms {
    ($($(#[$type:meta])* $name:ident $body:tt $range:expr, $with:expr;)+) => {$(
        forms!(@type $(#[$type])* $name $body);

        impl Value for $name {
            fn of(n: i64) -> Self {
                Self::with(n, n)
            }
            fn range(&self) -> (i64, i64) {
                let range: fn(&Self) -> (i64, i64) = $range;
                range(self)
            }
            fn with(low: i64, high: i64) -> Self {
                let with: fn(i64, i64) -> Self = $with;
                with(low, high)
            }
        }
    )+};
    (@type $(#[$type:meta])* $name:ident ($($of:tt)*)) => {
        #[derive(Clone, Serialize, Deserialize)]
        $(#[$type])*
        struct $name($($of)*);
    };
    (@type $(#[$type:meta])* $name:ident {$($of:tt)*}) => {
        #[derive(Clone, Serialize, Deserialize)]
        $(#[$type])*
        struct $name { $($of)* }
    };
    (@type $(#[$type:meta])* $name:ident [$($of:tt)*]) => {
        #[derive(Clone, Serialize, Deserialize)]
        $(#[$type])*
        enum $name { $($of)* }
    };
}

#[derive(Clone, Serialize, Deserialize)]
struct Number(i64);

forms! {
    Pair (i64, i64) |p| (p.0, p.1), |low, high| Pair(low, high);
    PairOfNumbers (Number, i64) |p| (p.0.0, p.1), |low, high| PairOfNumbers(Number(low), high);
    Triple (i64, i64, #[serde(default)] i64) |p| (p.0, p.1), |low, high| Triple(low, high, 0);
    Listed { all: Vec<i64> } |l| (l.all[0], l.all[1]), |low, high| Listed { all: vec![low, high] };
    Text { all: String } |t| {
        let (low, high) = t.all.split_once(' ').unwrap();
        (low.parse().unwrap(), high.parse().unwrap())
    }, |low, high| Text { all: format!("{low} {high}") };
    Maybe { low: Option<i64>, high: i64 } |m| (m.low.unwrap_or(-1), m.high),
        |low, high| Maybe { low: Some(low), high };
    Always { low: i64, high: i64 } |a| (a.low, a.high), |low, high| Always { low, high };
    One [Same(i64), Between { low: i64, high: i64 }] |o| match o {
        One::Same(n) => (*n, *n),
        One::Between { low, high } => (*low, *high),
    }, |low, high| if low == high { One::Same(low) } else { One::Between { low, high } };
    Moved [Nothing, Between { high: i64, low: i64 }, Same(i64)] |o| match o {
        Moved::Nothing => (0, 0),
        Moved::Same(n) => (*n, *n),
        Moved::Between { low, high } => (*low, *high),
    }, |low, high| if low == high { Moved::Same(low) } else { Moved::Between { low, high } };
    Aliased [#[serde(alias = "Between")] Range { low: i64, high: i64 }, Same(i64)] |o| match o {
        Aliased::Same(n) => (*n, *n),
        Aliased::Range { low, high } => (*low, *high),
    }, |low, high| if low == high { Aliased::Same(low) } else { Aliased::Range { low, high } };
    Gone [Same(i64), Spread(i64, i64)] |o| match o {
        Gone::Same(n) => (*n, *n),
        Gone::Spread(low, high) => (*low, *high),
    }, |low, high| if low == high { Gone::Same(low) } else { Gone::Spread(low, high) };
    Filled [Same(i64), Between { low: i64, high: f64 }] |o| match o {
        Filled::Same(n) => (*n, *n),
        Filled::Between { low, high } => (*low, *high as i64),
    }, |low, high| if low == high { Filled::Same(low) } else { Filled::Between { low, high: high as f64 } };
    Chain { n: i64, next: Option<Box<Chain>> }
        |c| (c.n, c.next.as_ref().map_or(c.n, |next| next.n)),
        |low, high| Chain { n: low, next: Some(Box::new(Chain { n: high, next: None })) };
    #[serde(rename = "Chain")]
    Longer { #[serde(default)] name: String, next: Option<Box<Longer>>, n: i64 }
        |c| (c.n, c.next.as_ref().map_or(c.n, |next| next.n)),
        |low, high| {
            let name = String::new();
            Longer { name: name.clone(), n: low, next: Some(Box::new(Longer { name, n: high, next: None })) }
        };
    #[serde(rename = "Chain")]
    Other { n: i64, next: Option<Box<Bent>> }
        |c| (c.n, c.next.as_ref().map_or(c.n, |next| next.n.into())),
        |low, high| Other { n: low, next: Some(Box::new(Bent { n: high as i32, next: None })) };
    Guarded { code: Code, low: i64, high: i64 } |g| (g.low, g.high),
        |low, high| Guarded { code: Code("code-7".to_owned()), low, high };
    #[serde(rename = "Guarded")]
    Unguarded { code: Code, low: i64, high: i32 } |g| (g.low, g.high.into()),
        |low, high| Unguarded { code: Code("code-7".to_owned()), low, high: high as i32 };
}

#[derive(Clone, Serialize, Deserialize)]
struct Bent {
    n: i32,
    next: Option<Box<Bent>>,
}

/// Rejects every value that a probe could make up.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Code(String);

impl TryFrom<String> for Code {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if text.starts_with("code-") { Ok(Code(text)) } else { Err(format!("`{text}` is no code")) }
    }
}

impl From<Code> for String {
    fn from(code: Code) -> String {
        code.0
    }
}

fn is_right() -> Outcome {
    Outcome::Right
}

pub(super) fn states() -> Vec<Change> {
    let mut table = vec![
        right("tuple with a newtype", running::<Pair>, running::<PairOfNumbers>),
        refused("another type", running::<Range>, running::<Pair>, &["Range { low, high } → Pair(i64, i64)"]),
        refused(
            "tuple of three",
            tumbled::<Pair>,
            tumbled::<Triple>,
            &["Pair(i64, i64) → Triple(i64, i64, i64)"],
        ),
        refused("list to text", slid::<Listed>, slid::<Text>, &["Listed.all: [i64] → text"]),
        refused("narrower number", sessions::<Range>, sessions::<Narrower>, &["Range.high: u32 → u16"]),
        refused("signed number", total::<Range>, total::<Signed>, &["Range.low: u32 → i32"]),
        refused("float", running::<Range>, running::<Float>, &["Range.low: u32 → f64"]),
        right("field that may be missing", running::<Always>, running::<Maybe>),
        refused("field that may not", running::<Maybe>, running::<Always>, &["Maybe.low: Option<i64> → i64"]),
        refused("content of a variant", tumbled::<One>, tumbled::<Filled>, &["One::Between.high: i64 → f64"]),
        refused("renamed variant", sessions::<One>, sessions::<Gone>, &["unknown variant `Between`"]),
        refused("deep inside", running::<Chain>, running::<Other>, &["Chain.next.n: i64 → i32"]),
        right("swapped fields of a whole stream", total::<Range>, total::<Swapped>),
        right("swapped fields in overlapping windows", slid::<Range>, slid::<Swapped>),
        right("swapped fields of collected rows", collected::<Range>, collected::<Swapped>),
        refused(
            "wider number in collected rows",
            collected::<Range>,
            collected::<Wider>,
            &["rows[].high: u32 → i64"],
        ),
        right("added field, removed again", tumbled::<Counted>, tumbled::<Range>),
        refused("unknown field", running::<Counted>, running::<Strict>, &["unknown field `count`"]),
        right("what rejects probes", running::<Guarded>, running::<Guarded>),
        right("what rejects probes, in sessions", sessions::<Guarded>, sessions::<Guarded>),
        refused("behind it", running::<Guarded>, running::<Unguarded>, &["Guarded.high: i64 → i32"]),
    ];
    table.extend(each::<Range, Swapped>("swapped fields", is_right));
    table.extend(each::<Range, Counted>("new field with a default", is_right));
    table.extend(each::<Range, Renamed>("renamed field with an alias", is_right));
    table.extend(each::<One, Moved>("moved variants", is_right));
    table.extend(each::<One, Aliased>("renamed variant with an alias", is_right));
    table.extend(each::<Chain, Longer>("recursive type", is_right));
    table.extend(each::<Range, Wider>("wider number", || {
        Outcome::Refused(&["Range.high: u32 → i64", "`op`", "types.rs:", "--drop-state op", "a new uid"])
    }));
    table.extend(each::<Range, Demanding>("new field without a default", || {
        Outcome::Refused(&["missing field `count`", "`op`", "#[serde(default)]"])
    }));
    table.extend(each::<Range, Lost>("renamed field without an alias", || {
        Outcome::Refused(&["missing field `least`"])
    }));
    table
}

/// Counts by key of a type.
trait Keyed: Clone + Eq + std::hash::Hash + Send + Serialize + DeserializeOwned + Debug + 'static {
    fn of(n: i64) -> Self;
}

fn counted<K: Keyed>(numbers: Stream<i64>, sink: MemorySink<Row>) {
    let counts = numbers.key_by(|n| K::of(n % 3)).count().update().uid("op");
    counts.map(|(key, value)| (format!("{key:?}"), value.to_string())).sink(sink);
}

fn windowed_by<K: Keyed>(numbers: Stream<i64>, sink: MemorySink<Row>) {
    numbers
        .with_watermark(|n| EventTime::from_secs(*n), secs(20))
        .uid("time")
        .key_by(|n| K::of(n % 3))
        .window(session(secs(5)))
        .count()
        .append()
        .uid("op")
        .map(|r| (format!("{:?} {}", r.key, r.window.start), r.value.to_string()))
        .sink(sink);
}

macro_rules! keys {
    ($($name:ident $body:tt = $of:expr;)+) => {$(
        keys!(@type $name $body);

        impl Keyed for $name {
            fn of(n: i64) -> Self {
                let of: fn(i64) -> Self = $of;
                of(n)
            }
        }
    )+};
    (@type $name:ident ($($of:tt)*)) => {
        #[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
        struct $name($($of)*);
        keys!(@debug $name);
    };
    (@type $name:ident {$($of:tt)*}) => {
        #[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
        struct $name { $($of)* }
        keys!(@debug $name);
    };
    (@type $name:ident [$($of:tt)*]) => {
        #[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
        enum $name { $($of)* }
        keys!(@debug $name);
    };
    // The same words for the same key, whatever its type is called.
    (@debug $name:ident) => {
        impl Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&serde_json::to_string(self).unwrap())
            }
        }
    };
}

keys! {
    City { zip: u32, name: String } = |n| City { zip: n as u32, name: n.to_string() };
    Town { zip: u32, name: String } = |n| Town { zip: n as u32, name: n.to_string() };
    Turned { name: String, zip: u32 } = |n| Turned { zip: n as u32, name: n.to_string() };
    WideZip { zip: u64, name: String } = |n| WideZip { zip: n as u64, name: n.to_string() };
    MoreCity { zip: u32, name: String, #[serde(default)] area: u8 } =
        |n| MoreCity { zip: n as u32, name: n.to_string(), area: 0 };
    Id (u32) = |n| Id(n as u32);
    Color [Red, Green, Blue] = |n| if n == 0 { Color::Red } else if n == 1 { Color::Green } else { Color::Blue };
    Colors [Black, Red, Green, Blue] =
        |n| if n == 0 { Colors::Red } else if n == 1 { Colors::Green } else { Colors::Blue };
}

impl Keyed for u32 {
    fn of(n: i64) -> u32 {
        n as u32
    }
}

impl Keyed for u64 {
    fn of(n: i64) -> u64 {
        n as u64
    }
}

impl Keyed for String {
    fn of(n: i64) -> String {
        n.to_string()
    }
}

impl Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Keyed for Code {
    fn of(n: i64) -> Code {
        Code(format!("code-{n}"))
    }
}

pub(super) fn keys() -> Vec<Change> {
    vec![
        right("a key's type has another name", counted::<City>, counted::<Town>),
        right("a key becomes a newtype", counted::<u32>, counted::<Id>),
        right("a key that rejects probes", counted::<Code>, counted::<Code>),
        right("a session's key that rejects probes", windowed_by::<Code>, windowed_by::<Code>),
        refused(
            "swapped fields of a key",
            counted::<City>,
            counted::<Turned>,
            &["type of its keys", "City: { zip, name }"],
        ),
        refused("wider number in a key", counted::<City>, counted::<WideZip>, &["City.zip: u32 → u64"]),
        refused("new field of a key", counted::<City>, counted::<MoreCity>, &["type of its keys", "area"]),
        refused("wider key", counted::<u32>, counted::<u64>, &["u32 → u64", "`op`", "--drop-state op"]),
        refused("key as text", counted::<u32>, counted::<String>, &["u32 → text"]),
        refused("variants of a key", counted::<Color>, counted::<Colors>, &["Color: { Red | Green | Blue }"]),
        refused("wider key of a session", windowed_by::<u32>, windowed_by::<u64>, &["u32 → u64"]),
        refused("variants of a session's key", windowed_by::<Color>, windowed_by::<Colors>, &["Black"]),
    ]
}

#[test]
fn changed_state_types_are_refused_or_right() {
    check(&states());
}

#[test]
fn changed_key_types_are_refused_or_right() {
    check(&keys());
}
