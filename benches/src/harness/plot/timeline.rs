//! Latency over the time of a run, by slots of 250 ms, with a mark where an epoch was committed.

use std::time::Duration;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::{FAINT, Failure, INK, Key, Plot, colour, decades, px, text, titled, with_keys};
use crate::harness::result::tick;
use crate::harness::run::Measured;
use crate::harness::slots::{Percentiles, SLOT};

/// More marks than these would be a grey wall.
const MOST_MARKS: usize = 120;

/// Latencies over time.
#[derive(Clone, Debug)]
pub struct Timeline {
    /// What it shows.
    pub title: String,
    /// What was measured.
    pub subtitle: String,
    /// p50, p99, p99.9 and the greatest, in microseconds, by when the slot began.
    pub slots: Vec<(Duration, [f64; 4])>,
    /// When epochs were committed.
    pub epochs: Vec<Duration>,
}

impl Timeline {
    /// Of a run.
    #[must_use]
    pub fn of(title: &str, subtitle: &str, measured: &Measured) -> Timeline {
        let slots = measured.record.iter().filter(|(_, slot)| !slot.is_empty()).map(|(at, slot)| {
            let Percentiles { p50, p99, p999, max, .. } = Percentiles::of(slot);
            (at, [p50, p99, p999, max])
        });
        Timeline {
            title: title.to_owned(),
            subtitle: subtitle.to_owned(),
            slots: slots.collect(),
            // What was committed before the first event was due is not on the plot.
            epochs: measured
                .epochs
                .iter()
                .filter(|epoch| epoch.committed > 0)
                .map(|epoch| Duration::from_nanos(epoch.committed))
                .collect(),
        }
    }
}

impl Plot for Timeline {
    fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    fn draw<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, scale: f64) -> Result<(), Failure<DB>> {
        let area = titled(area, &self.title, &self.subtitle, scale)?;
        let mut keys: Vec<Key> = ["p50", "p99", "p99.9", "max"]
            .iter()
            .enumerate()
            .map(|(at, name)| Key {
                name: (*name).to_owned(),
                colour: colour(at).to_rgba(),
                width: 2,
                dash: None,
            })
            .collect();
        let marked = (1..=MOST_MARKS).contains(&self.epochs.len());
        if marked {
            let name = "epoch committed".to_owned();
            keys.push(Key { name, colour: INK.mix(0.35), width: 1, dash: Some((4, 4)) });
        }
        let area = with_keys(&area, &keys, scale)?;
        let (low, high) = decades(self.slots.iter().flat_map(|(_, figures)| *figures));
        let end = self.slots.last().map_or(1.0, |(at, _)| (*at + SLOT).as_secs_f64());
        let mut chart = ChartBuilder::on(&area)
            .margin_left(px(8.0, scale))
            .margin_right(px(16.0, scale))
            .margin_top(px(8.0, scale))
            .x_label_area_size(px(46.0, scale))
            .y_label_area_size(px(72.0, scale))
            .build_cartesian_2d(0.0..end, (low..high).log_scale())?;
        chart
            .configure_mesh()
            .bold_line_style(FAINT)
            .light_line_style(TRANSPARENT)
            .disable_x_mesh()
            .axis_style(INK.mix(0.6))
            .label_style(text(12.0, scale))
            .x_label_formatter(&|seconds| format!("{seconds}"))
            .y_label_formatter(&|micros| tick(*micros))
            .x_desc("when the event was due, s")
            .y_desc("latency")
            .axis_desc_style(text(13.0, scale))
            .draw()?;
        if marked {
            let dash = (px(4.0, scale), px(4.0, scale));
            for at in self.epochs.iter().map(Duration::as_secs_f64).filter(|at| *at <= end) {
                let style = INK.mix(0.35).stroke_width(px(1.0, scale));
                chart.draw_series(DashedLineSeries::new([(at, low), (at, high)], dash.0, dash.1, style))?;
            }
        }
        for at in 0..4 {
            // A slot's figure stands in its middle.
            let points = self
                .slots
                .iter()
                .map(|(from, figures)| ((*from + SLOT / 2).as_secs_f64(), figures[at].max(low)));
            chart.draw_series(LineSeries::new(points, colour(at).stroke_width(px(2.0, scale))))?;
        }
        Ok(())
    }
}
