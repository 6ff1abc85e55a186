//! Several aggregates over the same records, in one pass.
//!
//! ```
//! use tidemill::aggregate::{Count, Max, Sum};
//! use tidemill::prelude::*;
//!
//! let all = (Count::new(), Sum::of(|n: &u64| *n), Max::of(|n: &u64| *n));
//! let mut acc = all.create(&3);
//! all.add(&mut acc, &4);
//! assert_eq!(all.finish(&acc), (2, 7, 4));
//! ```

use super::Aggregate;

macro_rules! tuples {
    ($(($head:ident $h:tt $(, $tail:ident $t:tt)+))+) => {$(
        impl<$head: Aggregate $(, $tail: Aggregate<In = $head::In>)+> Aggregate for ($head, $($tail),+) {
            type In = $head::In;
            type Acc = ($head::Acc, $($tail::Acc),+);
            type Out = ($head::Out, $($tail::Out),+);

            const SHRINKS: bool = $head::SHRINKS $(&& $tail::SHRINKS)+;
            const RELIEVES: bool = $head::RELIEVES $(|| $tail::RELIEVES)+;
            const ORDERED: bool = $head::ORDERED $(|| $tail::ORDERED)+;
            const OWNS: bool = $head::OWNS $(&& $tail::OWNS)+;
            const RETRACTS: bool = $head::RETRACTS $(&& $tail::RETRACTS)+;

            #[inline]
            fn create(&self, value: &Self::In) -> Self::Acc {
                (self.$h.create(value), $(self.$t.create(value)),+)
            }

            #[inline]
            fn add(&self, acc: &mut Self::Acc, value: &Self::In) {
                self.$h.add(&mut acc.$h, value);
                $(self.$t.add(&mut acc.$t, value);)+
            }

            #[inline]
            fn merge(&self, acc: &mut Self::Acc, other: Self::Acc) {
                self.$h.merge(&mut acc.$h, other.$h);
                $(self.$t.merge(&mut acc.$t, other.$t);)+
            }

            #[inline]
            fn finish(&self, acc: &Self::Acc) -> Self::Out {
                (self.$h.finish(&acc.$h), $(self.$t.finish(&acc.$t)),+)
            }

            #[inline]
            fn finish_owned(&self, acc: Self::Acc) -> Self::Out {
                (self.$h.finish_owned(acc.$h), $(self.$t.finish_owned(acc.$t)),+)
            }

            fn describe(&self) -> String {
                [self.$h.describe() $(, self.$t.describe())+].join(", ")
            }

            fn problem(&self) -> Option<String> {
                self.$h.problem()$(.or_else(|| self.$t.problem()))+
            }

            fn seal(&self, acc: &mut Self::Acc) {
                self.$h.seal(&mut acc.$h);
                $(self.$t.seal(&mut acc.$t);)+
            }

            fn settle(&self, acc: &mut Self::Acc, epoch: u64) {
                self.$h.settle(&mut acc.$h, epoch);
                $(self.$t.settle(&mut acc.$t, epoch);)+
            }

            fn relieve(&self, acc: &mut Self::Acc) {
                self.$h.relieve(&mut acc.$h);
                $(self.$t.relieve(&mut acc.$t);)+
            }

            #[inline]
            fn can_retract(&self, acc: &Self::Acc, among: u64) -> bool {
                self.$h.can_retract(&acc.$h, among) $(&& self.$t.can_retract(&acc.$t, among))+
            }

            #[inline]
            fn retract(&self, acc: &mut Self::Acc, of: &Self::Acc) {
                self.$h.retract(&mut acc.$h, &of.$h);
                $(self.$t.retract(&mut acc.$t, &of.$t);)+
            }
        }
    )+};
}

tuples! {
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
    (A 0, B 1, C 2, D 3, E 4)
    (A 0, B 1, C 2, D 3, E 4, F 5)
}

#[cfg(test)]
mod tests {
    use super::super::{Average, Collect, Count, Max, Min, Sum, over};
    use super::*;

    #[test]
    fn each_part_of_a_tuple_sees_every_record() {
        let all = (
            Count::new(),
            Sum::of(|n: &u8| *n),
            Min::of(|n: &u8| *n),
            Max::of(|n: &u8| *n),
            Average::of(|n: &u8| *n),
            Collect::new(),
        );
        let expected = (3, 9, 2, 4, 3.0, vec![2, 3, 4]);
        assert_eq!(over(&all, &[2, 3, 4]), (expected.clone(), expected));
    }

    #[test]
    fn a_tuple_shrinks_only_if_every_part_does() {
        const fn shrinks<A: Aggregate>(_: &A) -> bool {
            A::SHRINKS
        }
        assert!(shrinks(&(Count::<u8>::new(), Min::of(|n: &u8| *n))));
        assert!(!shrinks(&(Count::<u8>::new(), Collect::new())));
    }

    #[test]
    fn a_tuple_is_taken_back_only_if_every_part_can_be() {
        const fn retracts<A: Aggregate>(_: &A) -> bool {
            A::RETRACTS
        }
        let sums = (Count::new(), Sum::of(|n: &i64| *n));
        assert!(retracts(&sums));
        assert!(sums.can_retract(&sums.create(&i64::MAX), 64));
        let mut acc = sums.create(&9);
        sums.add(&mut acc, &-2);
        sums.retract(&mut acc, &sums.create(&9));
        assert_eq!(sums.finish(&acc), (1, -2));
        assert!(!retracts(&(Count::<u8>::new(), Min::of(|n: &u8| *n))));
        assert!(!retracts(&(Count::<u8>::new(), Sum::naive(|n: &u8| f64::from(*n)))));
        let floats = (Count::<f64>::new(), Sum::of(|n: &f64| *n));
        assert!(retracts(&floats) && !floats.can_retract(&floats.create(&f64::NAN), 64));
    }
}
