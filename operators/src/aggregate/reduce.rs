//! Records combined pair by pair.

use std::marker::PhantomData;
use std::sync::Arc;

use super::Aggregate;
use crate::Data;
use crate::keeping::{keep, watch};

/// Two records combined into one of the same type, again and again.
///
/// The function must be associative and commutative: in which order records come together is not defined, and a function that
/// is neither (an addition of floats, which rounds) gives results that depend on the number of workers, the batches and the
/// epochs. [`Sum`](super::Sum) adds exactly. The function gets its
/// arguments by value, so what was combined so far is cloned for every record; for large values use
/// [`Fold`](super::Fold), which changes them in place.
///
/// ```
/// use tidemill::aggregate::Reduce;
/// use tidemill::prelude::*;
///
/// let highest = Reduce::with(|a: (u64, char), b: (u64, char)| if b > a { b } else { a });
/// let mut acc = highest.create(&(3, 'x'));
/// highest.add(&mut acc, &(9, 'y'));
/// assert_eq!(highest.finish(&acc), (9, 'y'));
/// ```
pub struct Reduce<T, F> {
    function: Arc<F>,
    records: PhantomData<fn(&T)>,
}

impl<T, F: Fn(T, T) -> T> Reduce<T, F> {
    /// Combines two records with the function.
    pub fn with(function: F) -> Self {
        Reduce { function: Arc::new(function), records: PhantomData }
    }
}

impl<T, F> Clone for Reduce<T, F> {
    fn clone(&self) -> Self {
        Reduce { function: Arc::clone(&self.function), records: PhantomData }
    }
}

impl<T, F> Aggregate for Reduce<T, F>
where
    T: Data + Clone,
    F: Fn(T, T) -> T + Send + Sync + 'static,
{
    type In = T;
    type Acc = T;
    type Out = T;

    const OWNS: bool = true;

    #[inline]
    fn create(&self, value: &T) -> T {
        keep(|| value.clone())
    }

    #[inline]
    fn add(&self, acc: &mut T, value: &T) {
        let (other, shares) = watch(|| value.clone());
        self.merge(acc, other);
        if shares {
            // What the function left as it was is its own owner, and this clone of it is another share.
            *acc = keep(|| acc.clone());
        }
    }

    #[inline]
    fn merge(&self, acc: &mut T, other: T) {
        *acc = (self.function)(acc.clone(), other);
    }

    #[inline]
    fn finish(&self, acc: &T) -> T {
        acc.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::super::over;
    use super::*;

    #[test]
    fn associative_function_gives_one_result_for_any_division() {
        assert_eq!(over(&Reduce::with(|a: u32, b: u32| a ^ b), &[1, 2, 4, 8]), (15, 15));
    }
}
