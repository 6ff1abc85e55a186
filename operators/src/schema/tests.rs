use serde::{Deserialize, Serialize};

use super::*;

mod old {
    use super::*;

    #[derive(Serialize, Deserialize, Clone)]
    pub(super) struct Order {
        pub(super) price: u32,
        pub(super) note: Option<String>,
        pub(super) items: Vec<(u8, Item)>,
    }

    #[derive(Serialize, Deserialize, Clone)]
    pub(super) enum Item {
        Book { pages: u16 },
        Pen(char),
        Gift,
        Pair(i64, bool),
    }
}

fn old_order() -> old::Order {
    use old::Item;
    let items =
        vec![(1, Item::Gift), (2, Item::Pen('x')), (3, Item::Book { pages: 300 }), (4, Item::Pair(-5, true))];
    old::Order { price: 700, note: Some("n".to_owned()), items }
}

/// How an old value is read as a new type: equal bytes, by name, or refused statically and dynamically.
fn restored<Old, New>(value: &Old) -> Result<(bool, New), String>
where
    Old: Serialize + serde::de::DeserializeOwned,
    New: Serialize + serde::de::DeserializeOwned,
{
    let (recorded, now) = (probe::<Old>().unwrap(), probe::<New>().unwrap());
    // What is recorded goes through a checkpoint.
    let recorded: Shape = postcard::from_bytes(&postcard::to_stdvec(&recorded).unwrap()).unwrap();
    let mut bytes = Vec::new();
    encode(value, &mut bytes).unwrap();
    match recorded.fit(&now) {
        Err(difference) => {
            assert!(decode_as::<New>(&bytes, &recorded).is_err(), "{difference}");
            Err(difference.to_string())
        }
        Ok(fit) => {
            let value = decode_as(&bytes, &recorded).map_err(|error| error.to_string())?;
            Ok((fit == Fit::Same, value))
        }
    }
}

#[test]
fn shape_lists_every_field_and_every_variant() {
    let shape = probe::<old::Order>().unwrap();
    assert!(!shape.is_partial(), "{shape:?}");
    let text = format!("{shape:?}");
    for part in
        ["price", "note", "items", "Book", "pages", "Pen", "Gift", "Pair", "Char", "U16", "I64", "Bool"]
    {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn equal_types_in_other_places_are_the_same() {
    #[derive(Serialize, Deserialize)]
    struct Order {
        price: Cents,
        note: Option<String>,
        items: Vec<(u8, old::Item)>,
    }
    #[derive(Serialize, Deserialize)]
    struct Cents(u32);
    let (same, new) = restored::<_, Order>(&old_order()).unwrap();
    assert!(same);
    assert_eq!((new.price.0, new.note, new.items.len()), (700, Some("n".to_owned()), 4));
}

#[test]
fn fields_are_found_by_name_default_and_alias() {
    #[derive(Serialize, Deserialize)]
    struct Order {
        #[serde(default)]
        customer: String,
        #[serde(alias = "items")]
        lines: Vec<(u8, Item)>,
        price: Option<u32>,
    }
    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    enum Item {
        New,
        Pair(i64, bool),
        Gift,
        #[serde(alias = "Pen")]
        Pencil(char),
        Book {
            #[serde(default)]
            title: String,
            pages: u16,
        },
    }
    let (same, new) = restored::<_, Order>(&old_order()).unwrap();
    assert!(!same);
    assert_eq!((new.customer.as_str(), new.price), ("", Some(700)));
    let book = Item::Book { title: String::new(), pages: 300 };
    assert_eq!(new.lines, [(1, Item::Gift), (2, Item::Pencil('x')), (3, book), (4, Item::Pair(-5, true))]);
}

#[test]
fn swapped_fields_keep_their_values() {
    #[derive(Serialize, Deserialize)]
    struct Low {
        low: u32,
        high: u32,
    }
    #[derive(Serialize, Deserialize)]
    struct High {
        high: u32,
        low: u32,
    }
    let (same, new) = restored::<_, High>(&Low { low: 1, high: 9 }).unwrap();
    assert!(!same);
    assert_eq!((new.low, new.high), (1, 9));
}

#[test]
fn changed_number_is_refused_with_its_path() {
    #[derive(Serialize, Deserialize)]
    struct Order {
        price: i64,
        note: Option<String>,
        items: Vec<(u8, old::Item)>,
    }
    assert_eq!(restored::<_, Order>(&old_order()).err().unwrap(), "Order.price: u32 → i64");
    assert_eq!(restored::<_, Vec<u64>>(&vec![1u32]).err().unwrap(), "[]: u32 → u64");
    assert_eq!(restored::<_, u32>(&Some(1u32)).err().unwrap(), "it: Option<u32> → u32");
}

#[test]
fn changed_content_deep_inside_is_refused_with_its_path() {
    #[derive(Serialize, Deserialize)]
    struct Order {
        price: u32,
        items: Vec<(u8, Item)>,
    }
    #[derive(Serialize, Deserialize)]
    enum Item {
        Book { pages: u32 },
        Pen(char),
        Gift,
        Pair(i64, bool),
    }
    let refused = restored::<_, Order>(&old_order()).err().unwrap();
    assert_eq!(refused, "Order.items[].1::Book.pages: u16 → u32");
}

#[test]
fn field_without_default_and_variant_that_is_gone_are_refused() {
    #[derive(Serialize, Deserialize)]
    struct Order {
        price: u32,
        customer: String,
    }
    let refused = restored::<_, Order>(&old_order()).err().unwrap();
    assert_eq!(refused, "Order: missing field `customer`");
    #[derive(Serialize, Deserialize)]
    struct Fewer {
        items: Vec<(u8, Item)>,
    }
    #[derive(Serialize, Deserialize)]
    enum Item {
        Gift,
    }
    let refused = restored::<_, Fewer>(&old_order()).err().unwrap();
    assert!(refused.contains("unknown variant `Pen`"), "{refused}");
}

#[test]
fn recursive_and_generic_types_are_cut_and_restored() {
    #[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
    enum Expression<T> {
        Both(Box<Expression<T>>, Box<Expression<T>>),
        Not { of: Option<Box<Expression<T>>> },
        Many(Vec<Expression<T>>),
        Value(T),
    }
    #[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
    struct Pair<A, B> {
        a: A,
        b: B,
    }
    type Old = Pair<Expression<u8>, Pair<Expression<String>, ()>>;
    let shape = probe::<Old>().unwrap();
    assert!(!shape.is_partial(), "{shape:?}");
    use Expression::{Both, Many, Not, Value};
    let a = Both(Box::new(Value(1)), Box::new(Many(vec![Value(2), Not { of: Some(Box::new(Value(3))) }])));
    let old: Old = Pair { a, b: Pair { a: Value("x".to_owned()), b: () } };
    assert_eq!(restored::<_, Old>(&old).unwrap(), (true, old.clone()));
    type Wider = Pair<Expression<u8>, Pair<Expression<char>, ()>>;
    assert_eq!(restored::<_, Wider>(&old).err().unwrap(), "Pair.b.a::Value: text → char");
}

#[test]
fn usual_types_have_whole_shapes() {
    use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
    use std::net::{IpAddr, SocketAddr};
    use std::num::{NonZeroU32, Wrapping};
    use std::time::Duration;
    fn whole<T: Serialize + serde::de::DeserializeOwned>() {
        let shape = probe::<T>().unwrap_or_else(|refusal| panic!("{refusal}"));
        assert!(!shape.is_partial(), "{}: {shape:?}", std::any::type_name::<T>());
        assert_eq!(shape.fit(&probe::<T>().unwrap()), Ok(Fit::Same));
    }
    whole::<(u8, i8, u16, i16, u32, i32, u64, i64, u128, i128, f32, f64, bool, char, String)>();
    whole::<(BTreeMap<String, Vec<u8>>, HashMap<u8, BTreeSet<i64>>, VecDeque<()>)>();
    whole::<(IpAddr, SocketAddr, NonZeroU32, Wrapping<u8>, Duration)>();
    whole::<(Option<Box<str>>, Result<u8, String>, [u16; 3], std::ops::Range<u8>, std::path::PathBuf)>();
    whole::<(crate::EventTime, crate::Window, crate::WindowResult<String, (u64, f64)>)>();
    whole::<crate::spill::Rows<(u8, String), crate::codec::Postcard>>();
}

#[test]
fn type_that_rejects_values_is_completed_from_what_is_written() {
    #[derive(Serialize, Deserialize)]
    #[serde(try_from = "String", into = "String")]
    #[derive(Clone)]
    struct Code(String);
    impl TryFrom<String> for Code {
        type Error = String;
        fn try_from(text: String) -> Result<Self, String> {
            if text.starts_with("code-") { Ok(Code(text)) } else { Err("no code".to_owned()) }
        }
    }
    impl From<Code> for String {
        fn from(code: Code) -> String {
            code.0
        }
    }
    #[derive(Serialize, Deserialize)]
    struct Row {
        code: Code,
        count: u32,
        more: Option<Vec<Code>>,
    }
    #[derive(Serialize, Deserialize)]
    struct Wider {
        code: Code,
        count: u64,
        more: Option<Vec<Code>>,
    }
    let schema = Schema::of::<Row>();
    assert!(schema.shape().unwrap().is_partial());
    assert!(schema.is_partial());
    let code = || Code("code-1".to_owned());
    let row = Row { code: code(), count: 7, more: Some(vec![code()]) };
    schema.learn(&row).unwrap();
    let recorded = schema.shape().unwrap();
    assert!(!recorded.is_partial(), "{recorded:?}");
    let mut bytes = Vec::new();
    encode(&row, &mut bytes).unwrap();
    let again = Schema::of::<Row>();
    assert!(matches!(recorded.fit(&again.shape().unwrap()), Ok(Fit::Evolved(_))));
    assert_eq!(again.transcode(&bytes, &recorded).unwrap(), bytes);
    // The probe of the new type sees as little, and decoding finds it all the same.
    let refused = Schema::of::<Wider>().transcode(&bytes, &recorded).unwrap_err();
    assert_eq!(refused.to_string(), "Wider.count: u32 → u64");
}

#[test]
fn types_that_cannot_be_read_back_are_refused_with_the_place() {
    #[derive(Serialize, Deserialize)]
    struct Around<T> {
        event: T,
    }
    #[derive(Serialize, Deserialize)]
    #[serde(tag = "type")]
    enum Tagged {
        Click { page: u32 },
    }
    #[derive(Serialize, Deserialize)]
    #[serde(tag = "type", content = "of")]
    enum Adjacent {
        Click { page: u32 },
        Buy(u8),
    }
    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        Number(u8),
    }
    #[derive(Serialize, Deserialize)]
    struct Inner {
        a: u8,
    }
    #[derive(Serialize, Deserialize)]
    struct Flattened {
        #[serde(flatten)]
        inner: Inner,
    }
    #[derive(Serialize, Deserialize)]
    struct Half {
        #[serde(skip_serializing, default)]
        #[allow(dead_code, reason = "it is only left out")]
        gone: u8,
        kept: u8,
    }
    #[derive(Serialize, Deserialize)]
    enum Moved {
        #[serde(skip)]
        #[allow(dead_code, reason = "it is skipped")]
        First,
        Second,
    }
    fn refused<T: Serialize + serde::de::DeserializeOwned>(parts: &[&str]) {
        let message = probe::<Around<T>>().expect_err(std::any::type_name::<T>()).to_string();
        for part in parts.iter().chain(&["Around.event"]) {
            assert!(message.contains(part), "{part} is not in: {message}");
        }
    }
    refused::<Tagged>(&["#[serde(tag"]);
    refused::<Untagged>(&["#[serde(untagged)]"]);
    refused::<Adjacent>(&["content ="]);
    refused::<Flattened>(&["#[serde(flatten)]"]);
    refused::<serde_json::Value>(&["serde_json", "as text"]);
    refused::<Half>(&["skip_serializing"]);
    refused::<Moved>(&["`Second` as number 1"]);
}

#[test]
fn fields_written_in_another_order_are_recorded_as_written() {
    #[derive(Deserialize)]
    struct Range {
        high: u32,
        low: u32,
    }
    impl Serialize for Range {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeStruct;
            let mut fields = serializer.serialize_struct("Range", 2)?;
            fields.serialize_field("low", &self.low)?;
            fields.serialize_field("high", &self.high)?;
            fields.end()
        }
    }
    let schema = Schema::of::<Range>();
    assert_eq!(schema.shape().unwrap().to_string(), "Range { low, high }");
    assert!(schema.check_order().unwrap_err().to_string().contains("another order"));
    let mut bytes = Vec::new();
    encode(&Range { high: 9, low: 1 }, &mut bytes).unwrap();
    let range: Range = decode_as(&bytes, &schema.shape().unwrap()).unwrap();
    assert_eq!((range.low, range.high), (1, 9));
}

#[test]
fn field_that_is_left_out_is_refused_when_it_is_written() {
    #[derive(Serialize, Deserialize)]
    struct Order {
        #[serde(skip_serializing_if = "Option::is_none")]
        note: Option<u32>,
        price: u32,
    }
    let mut bytes = vec![1];
    encode_many(&[Order { note: Some(1), price: 2 }], &mut bytes).unwrap();
    assert_eq!(bytes, [1, 1, 1, 2]);
    let rows = [Order { note: Some(1), price: 2 }, Order { note: None, price: 2 }];
    let message = encode_many(&rows, &mut bytes).unwrap_err().to_string();
    assert!(message.contains("`Order` leaves out the field `note`"), "{message}");
    assert_eq!(bytes, [1, 1, 1, 2], "nothing of it stays");
}

proptest::proptest! {
    #[test]
    fn bytes_are_those_of_postcard(
        row in proptest::prelude::any::<(Option<(i64, String)>, Vec<(u8, char)>, Result<u128, i16>, f64, bool)>(),
        map in proptest::collection::btree_map(proptest::prelude::any::<u16>(), proptest::prelude::any::<i128>(), 0..5),
    ) {
        #[derive(Serialize)]
        enum Row<T> { Named { row: T }, Newtype(T), Pair(T, u8), Unit }
        let rows = (Row::Named { row: &row }, Row::Newtype(&row), Row::Pair(&map, 7), Row::<()>::Unit, &map);
        let mut bytes = Vec::new();
        encode(&rows, &mut bytes).unwrap();
        proptest::prop_assert_eq!(bytes, postcard::to_stdvec(&rows).unwrap());
    }
}
