//! A histogram as the text that HdrHistogram's own tools write and plot: a line for each step of percentile.

use std::io::{self, Write};

use hdrhistogram::{Counter, Histogram};

/// How many lines for each halving of the distance to 100 %.
const STEPS: u32 = 5;

/// Writes a histogram of nanoseconds, its values in microseconds.
///
/// # Errors
/// If `out` cannot be written.
pub fn write<C: Counter>(histogram: &Histogram<C>, out: &mut impl Write) -> io::Result<()> {
    let micros = |nanos: u64| nanos as f64 / 1e3;
    writeln!(out, "{:>12} {:>14} {:>10} {:>14}\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)")?;
    let mut count = 0;
    for value in histogram.iter_quantiles(STEPS) {
        count += value.count_since_last_iteration();
        let quantile = value.quantile_iterated_to();
        write!(out, "{:12.3} {quantile:.12} {count:10}", micros(value.value_iterated_to()))?;
        match quantile < 1.0 {
            true => writeln!(out, " {:14.2}", 1.0 / (1.0 - quantile))?,
            false => writeln!(out)?,
        }
    }
    let (mean, deviation) = (histogram.mean() / 1e3, histogram.stdev() / 1e3);
    writeln!(out, "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]")?;
    let (max, total) = (micros(histogram.max()), histogram.len());
    writeln!(out, "#[Max     = {max:12.3}, Total count    = {total:12}]")?;
    // As many halves of 2,048 as the greatest value takes, as the tools reckon.
    let (subs, buckets) = (2_048, (histogram.high() >> 11).checked_ilog2().map_or(1, |log| log + 2));
    writeln!(out, "#[Buckets = {buckets:12}, SubBuckets     = {subs:12}]")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::slots::histogram;

    #[test]
    fn the_lines_lead_from_the_least_to_the_greatest() {
        let mut all = histogram();
        (1..=1_000_u64).for_each(|micros| all.record(micros * 1_000).unwrap());
        let mut text = Vec::new();
        write(&all, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<Vec<f64>> = text
            .lines()
            .skip(2)
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|number| number.parse().unwrap()).collect())
            .collect();
        assert!(lines.len() > 20);
        assert!(lines.windows(2).all(|pair| pair[0][0] <= pair[1][0] && pair[0][2] <= pair[1][2]));
        let (first, last) = (&lines[0], &lines[lines.len() - 1]);
        assert!((first[0] - 1.0).abs() < 0.01 && (last[0] - 1_000.0).abs() < 1.0, "{first:?} {last:?}");
        assert_eq!((last[1], last[2], last.len()), (1.0, 1_000.0, 3));
        let half = lines.iter().find(|line| line[1] == 0.5).unwrap();
        assert!((half[0] - 500.0).abs() < 1.0 && half[2] == 500.0 && half[3] == 2.0, "{half:?}");
        assert!(text.contains("Total count    =         1000"));
    }
}
