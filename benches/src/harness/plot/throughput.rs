//! The rate that is kept up against the interval of the trigger.

use plotters::coord::Shift;
use plotters::prelude::*;

use super::{FAINT, Failure, INK, Key, Plot, colour, px, text, titled, with_keys};
use crate::harness::result::rate;

/// Rates by trigger.
#[derive(Clone, Debug)]
pub struct ThroughputPlot {
    /// What it shows.
    pub title: String,
    /// What was measured.
    pub subtitle: String,
    /// The triggers in their order, and events a second with each.
    pub triggers: Vec<(String, f64)>,
    /// What has no trigger, as a level across the plot.
    pub level: Option<(String, f64)>,
}

impl Plot for ThroughputPlot {
    fn is_empty(&self) -> bool {
        self.triggers.is_empty()
    }

    fn draw<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, scale: f64) -> Result<(), Failure<DB>> {
        let area = titled(area, &self.title, &self.subtitle, scale)?;
        let mut keys =
            vec![Key { name: "micro-batch".to_owned(), colour: colour(0).to_rgba(), width: 6, dash: None }];
        if let Some((name, _)) = &self.level {
            keys.push(Key { name: name.clone(), colour: colour(1).to_rgba(), width: 2, dash: Some((8, 4)) });
        }
        let area = with_keys(&area, &keys, scale)?;
        let level = self.level.iter().map(|(_, events)| *events);
        let most = self.triggers.iter().map(|(_, events)| *events).chain(level).fold(1.0, f64::max);
        let count = self.triggers.len();
        let mut chart = ChartBuilder::on(&area)
            .margin_left(px(8.0, scale))
            .margin_right(px(16.0, scale))
            .margin_top(px(8.0, scale))
            .x_label_area_size(px(46.0, scale))
            .y_label_area_size(px(72.0, scale))
            .build_cartesian_2d(0.0..count as f64, 0.0..most * 1.1)?;
        chart
            .configure_mesh()
            .bold_line_style(FAINT)
            .light_line_style(TRANSPARENT)
            .disable_x_mesh()
            .axis_style(INK.mix(0.6))
            .label_style(text(12.0, scale))
            .x_labels(0)
            .y_label_formatter(&|events| rate(*events))
            .y_desc("events a second kept up")
            .axis_desc_style(text(13.0, scale))
            .draw()?;
        for (at, (_, events)) in self.triggers.iter().enumerate() {
            let (from, to) = (at as f64 + 0.25, at as f64 + 0.75);
            chart.draw_series([Rectangle::new([(from, 0.0), (to, *events)], colour(0).filled())])?;
        }
        if let Some((_, events)) = &self.level {
            let style = colour(1).stroke_width(px(2.0, scale));
            let ends = [(0.0, *events), (count as f64, *events)];
            chart.draw_series(DashedLineSeries::new(ends, px(8.0, scale), px(4.0, scale), style))?;
        }
        // The names stand below the bars, where a scale of numbers would have put its own.
        for (at, (name, events)) in self.triggers.iter().enumerate() {
            let (x, y) = chart.backend_coord(&(at as f64 + 0.5, 0.0));
            let (_, top) = chart.backend_coord(&(0.0, *events));
            let half = |text: &str| px(3.6 * text.chars().count() as f64, scale) as i32;
            let (name, figure) = (format!("trigger {name}"), rate(*events));
            let (left, above) = area_origin(&area);
            let below = (x - half(&name) - left, y + px(10.0, scale) as i32 - above);
            let over = (x - half(&figure) - left, top - px(18.0, scale) as i32 - above);
            area.draw(&Text::new(name, below, text(12.0, scale)))?;
            area.draw(&Text::new(figure, over, text(12.0, scale)))?;
        }
        Ok(())
    }
}

/// Where an area lies in the whole.
fn area_origin<DB: DrawingBackend>(area: &DrawingArea<DB, Shift>) -> (i32, i32) {
    let (x, y) = area.get_pixel_range();
    (x.start, y.start)
}
