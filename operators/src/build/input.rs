//! The inputs of an operator, as types: what comes in each, and which operator takes them.

use std::marker::PhantomData;

use super::{Dealt, StatefulOperator, Takes, To};
use crate::buffers::give_back;
use crate::chain::TimeDomain;
use crate::top_keys::KeySampler;
use crate::{Batch, EventTime, Key, OperatorError, RowKind, rows};

/// A keyed input: its rows are [`Dealt`].
#[derive(Debug)]
pub struct ByKey<K, T>(PhantomData<fn() -> (K, T)>);

/// An input without keys: its rows are pairs of event time and value.
#[derive(Debug)]
pub struct Whole<T, M>(PhantomData<fn() -> (T, M)>);

/// How the rows of an input come. Named in types, implemented only here.
pub trait InputRows: 'static {
    /// A row as the operator takes it.
    type Row: 'static;

    /// The rows of a batch.
    fn of(batch: Batch) -> Result<Vec<Self::Row>, OperatorError>;

    /// Counts their keys.
    #[doc(hidden)]
    fn sample(_rows: &[Self::Row], _sampler: &mut KeySampler) {}
}

impl<K: Key, T: Send + 'static> InputRows for ByKey<K, T> {
    type Row = Dealt<K, T>;

    fn of(batch: Batch) -> Result<Vec<Self::Row>, OperatorError> {
        rows(batch)
    }

    fn sample(rows: &[Self::Row], sampler: &mut KeySampler) {
        sampler.note_all(rows, |row| (row.hash, &row.key));
    }
}

impl<T: Send + 'static, M: TimeDomain> InputRows for Whole<T, M> {
    type Row = (EventTime, T);

    fn of(batch: Batch) -> Result<Vec<Self::Row>, OperatorError> {
        Ok(rows::<M::Row<T>>(batch)?.into_iter().map(M::unpack).collect())
    }
}

/// A tuple with one more element. Implemented for up to five.
pub trait Append<T> {
    /// The longer tuple.
    type All;
}

/// The inputs of an operator, and that it takes all of them. Implemented for up to six.
#[diagnostic::on_unimplemented(
    message = "`{O}` does not take these inputs: `{Self}`",
    note = "implement `Takes<0>` for the first input, `Takes<1>` for the second and so on; `Row` is `Dealt<K, T>` for a keyed \
            input, with the operator's own `Key`, and `(EventTime, T)` for the others"
)]
pub trait Inputs<O: StatefulOperator>: 'static {
    /// The kinds of rows that each input takes.
    #[doc(hidden)]
    const KINDS: &'static [&'static [RowKind]];

    /// Hands the rows of an input to the operator.
    fn take(operator: &mut O, input: usize, batch: Batch, to: &mut To<'_, O>) -> Result<(), OperatorError>;
}

/// Hands the rows of input `N` over.
fn take<const N: usize, I, O>(operator: &mut O, batch: Batch, to: &mut To<'_, O>) -> Result<(), OperatorError>
where
    I: InputRows,
    O: Takes<N, Row = I::Row>,
{
    let mut rows = I::of(batch)?;
    I::sample(&rows, to.sampler());
    operator.take(rows.drain(..), to)?;
    give_back(rows);
    Ok(())
}

macro_rules! inputs {
    ($($name:ident $number:tt),*) => {
        impl<O, $($name),*> Inputs<O> for ($($name,)*)
        where
            O: StatefulOperator $(+ Takes<$number, Row = $name::Row>)*,
            $($name: InputRows),*
        {
            const KINDS: &'static [&'static [RowKind]] = &[$(<O as Takes<$number>>::KINDS),*];

            fn take(operator: &mut O, input: usize, batch: Batch, to: &mut To<'_, O>) -> Result<(), OperatorError> {
                match input {
                    $($number => take::<$number, $name, O>(operator, batch, to),)*
                    _ => Err(OperatorError::WrongType { expected: "an input that there is" }),
                }
            }
        }
    };
}

macro_rules! append {
    ($($name:ident)*) => {
        impl<$($name,)* T> Append<T> for ($($name,)*) {
            type All = ($($name,)* T,);
        }
    };
}

inputs!(A 0);
inputs!(A 0, B 1);
inputs!(A 0, B 1, C 2);
inputs!(A 0, B 1, C 2, D 3);
inputs!(A 0, B 1, C 2, D 3, E 4);
inputs!(A 0, B 1, C 2, D 3, E 4, F 5);
append!();
append!(A);
append!(A B);
append!(A B C);
append!(A B C D);
append!(A B C D E);
