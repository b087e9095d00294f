//! Progress of an operation: bars on a terminal, lines elsewhere, nothing with `-q`. Always on standard error. A line a
//! layer, and one for all of them.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Instant;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::api::v1::types;
use crate::api::v1::types::layer_progress::Phase;
use crate::api::v1::types::{operation, pull_progress};
use crate::render;
use crate::units;

/// Shows the states of one operation as they come.
pub struct Progress {
    kind: Kind,
    layers: BTreeMap<String, Layer>,
    total: Option<ProgressBar>,
    began: Instant,
}

enum Kind {
    Quiet,
    Lines,
    Bars(MultiProgress),
}

struct Layer {
    phase: Phase,
    size_bytes: u64,
    moved_bytes: u64,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Bars if standard error is a terminal, else lines; nothing if `quiet`.
    pub fn new(quiet: bool) -> Self {
        let kind = if quiet {
            Kind::Quiet
        } else if std::io::stderr().is_terminal() {
            Kind::Bars(MultiProgress::with_draw_target(ProgressDrawTarget::stderr()))
        } else {
            Kind::Lines
        };
        Self { kind, layers: BTreeMap::new(), total: None, began: Instant::now() }
    }

    /// Shows where the operation stands now.
    pub fn show(&mut self, operation: &types::Operation) {
        let layers = match &operation.progress {
            Some(operation::Progress::PullProgress(progress)) => {
                let phase = match progress.phase() {
                    pull_progress::Phase::Resolving => "resolving",
                    pull_progress::Phase::Publishing => "making visible",
                    _ => "",
                };
                self.show_total(&progress.layers, phase);
                &progress.layers
            }
            Some(operation::Progress::LoadProgress(progress)) => &progress.layers,
            Some(operation::Progress::PushProgress(progress)) => {
                self.show_total(&progress.layers, "");
                &progress.layers
            }
            _ => return,
        };
        for layer in layers {
            self.show_layer(layer);
        }
    }

    /// A sentence above the bars, or a line of its own.
    pub fn say(&self, text: &str) {
        match &self.kind {
            Kind::Quiet => {}
            Kind::Lines => eprintln!("{text}"),
            // It fails only on a closed terminal, when nobody reads it.
            Kind::Bars(bars) => drop(bars.println(text)),
        }
    }

    /// The last state is on the screen; nothing is drawn any more.
    pub fn end(&mut self) {
        for bar in self.layers.values().filter_map(|layer| layer.bar.as_ref()).chain(&self.total) {
            bar.abandon();
        }
        if matches!(self.kind, Kind::Lines) && !self.layers.is_empty() {
            let moved: Vec<&Layer> = self.layers.values().filter(|layer| !was_there(layer.phase)).collect();
            let bytes = moved.iter().map(|layer| layer.moved_bytes).sum::<u64>();
            eprintln!(
                "total: {} layers, {} already there, {} in {:.1} s",
                self.layers.len(),
                self.layers.len() - moved.len(),
                units::human_bytes(i64::try_from(bytes).unwrap_or(i64::MAX)),
                self.began.elapsed().as_secs_f64()
            );
        }
    }

    /// The line of all layers stands above theirs, where a small terminal still has room for it.
    fn show_total(&mut self, layers: &[types::LayerProgress], phase: &'static str) {
        let Kind::Bars(bars) = &self.kind else { return };
        let (size, position) = totals(layers);
        let total = self.total.get_or_insert_with(|| {
            let bar = bars.insert(0, ProgressBar::new(size).with_style(total_style()));
            // What an earlier attempt brought is no part of the rate.
            bar.set_position(position);
            bar.reset_eta();
            bar
        });
        total.set_length(size);
        total.set_position(position);
        let done = layers.iter().filter(|layer| is_done(layer.phase())).count();
        total.set_message(if phase.is_empty() {
            format!("{done}/{} done", layers.len())
        } else {
            phase.into()
        });
    }

    fn show_layer(&mut self, layer: &types::LayerProgress) {
        let phase = layer.phase();
        let id = if layer.digest.is_empty() { &layer.diff_id } else { &layer.digest };
        let short = render::printable(render::short_id(id));
        let known = self.layers.get(id).map(|known| known.phase);
        if matches!(self.kind, Kind::Lines) && known != Some(phase) {
            eprintln!("{short}: {}", line(layer, phase));
        }
        let size_bytes = unsigned(layer.size_bytes);
        let entry = self.layers.entry(id.clone()).or_insert_with(|| Layer {
            phase,
            size_bytes,
            moved_bytes: 0,
            bar: match &self.kind {
                Kind::Bars(bars) => Some(bars.add(new_bar(&short, size_bytes))),
                Kind::Quiet | Kind::Lines => None,
            },
        });
        entry.phase = phase;
        entry.size_bytes = size_bytes;
        entry.moved_bytes = moved(layer);
        if let Some(bar) = &entry.bar {
            draw(bar, layer, phase);
        }
    }
}

fn unsigned(bytes: i64) -> u64 {
    u64::try_from(bytes).unwrap_or(0)
}

fn is_done(phase: Phase) -> bool {
    matches!(phase, Phase::Done) || was_there(phase)
}

fn was_there(phase: Phase) -> bool {
    matches!(phase, Phase::Present | Phase::Mounted)
}

/// Compressed bytes of a layer that are where they shall be.
fn moved(layer: &types::LayerProgress) -> u64 {
    let size = unsigned(layer.size_bytes);
    if is_done(layer.phase()) {
        size
    } else {
        unsigned(layer.transferred_bytes).min(size)
    }
}

/// Bytes of all layers that were not there before, and how many of them have come.
fn totals(layers: &[types::LayerProgress]) -> (u64, u64) {
    layers
        .iter()
        .filter(|layer| !was_there(layer.phase()))
        .fold((0, 0), |(size, position), layer| (size + unsigned(layer.size_bytes), position + moved(layer)))
}

fn total_style() -> ProgressStyle {
    ProgressStyle::with_template(
        "total: {msg:18} [{bar:32}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} eta {eta}",
    )
    .expect("the template is valid")
    .progress_chars("=> ")
}

/// Progress of sending an archive of `size_bytes` (0: not known): a bar on a terminal, else one line that it began;
/// nothing if `quiet`. The caller adds the bytes that it sent and clears the bar at the end.
pub fn sending(quiet: bool, size_bytes: i64) -> ProgressBar {
    let size = u64::try_from(size_bytes).ok().filter(|size| *size > 0);
    if quiet {
        return ProgressBar::hidden();
    }
    if !std::io::stderr().is_terminal() {
        eprintln!(
            "sending {}",
            size.map_or_else(|| "archive".to_owned(), |_| units::human_bytes(size_bytes))
        );
        return ProgressBar::hidden();
    }
    let template = if size.is_some() {
        "sending [{bar:32}] {decimal_bytes:>10}/{decimal_total_bytes:<10} {decimal_bytes_per_sec} eta {eta}"
    } else {
        "sending {decimal_bytes:>10} {decimal_bytes_per_sec}"
    };
    let style = ProgressStyle::with_template(template).expect("the template is valid").progress_chars("=> ");
    ProgressBar::with_draw_target(size, ProgressDrawTarget::stderr()).with_style(style)
}

/// Progress of an archive of unknown size that comes: bytes and their rate on a terminal; nothing elsewhere, or if
/// `quiet`. The caller adds the bytes and clears the bar at the end.
pub fn receiving(quiet: bool) -> ProgressBar {
    counting(quiet, "saving {decimal_bytes:>10} {decimal_bytes_per_sec}")
}

/// As [`receiving`], for files that are copied either way.
pub fn copying(quiet: bool) -> ProgressBar {
    counting(quiet, "copying {decimal_bytes:>10} {decimal_bytes_per_sec}")
}

fn counting(quiet: bool, template: &str) -> ProgressBar {
    if quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(template).expect("the template is valid");
    ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style)
}

fn new_bar(id: &str, size_bytes: u64) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{prefix}: {msg:18} [{bar:32}] {decimal_bytes}/{decimal_total_bytes}")
            .expect("the template is valid")
            .progress_chars("=> ");
    let bar = ProgressBar::new(size_bytes).with_style(style);
    bar.set_prefix(id.to_owned());
    bar
}

fn draw(bar: &ProgressBar, layer: &types::LayerProgress, phase: Phase) {
    bar.set_length(unsigned(layer.size_bytes));
    bar.set_position(moved(layer));
    if !is_done(phase) {
        bar.set_message(match phase {
            // How large it will be is not known; the bar shows how much has come.
            Phase::Extracting => format!("extracting {}", units::human_bytes(layer.extracted_bytes)),
            _ => word(phase).to_owned(),
        });
    } else if !bar.is_finished() {
        bar.abandon_with_message(word(phase));
    }
}

fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Unspecified | Phase::Waiting => "waiting",
        Phase::Downloading => "downloading",
        Phase::Verifying => "verifying",
        Phase::Extracting => "extracting",
        Phase::Done => "done",
        Phase::Present => "already here",
        Phase::Uploading => "uploading",
        Phase::Mounted => "mounted",
    }
}

fn line(layer: &types::LayerProgress, phase: Phase) -> String {
    match phase {
        Phase::Downloading | Phase::Uploading => {
            format!("{} {}", word(phase), units::human_bytes(layer.size_bytes))
        }
        _ => word(phase).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(phase: Phase, size_bytes: i64, transferred_bytes: i64) -> types::LayerProgress {
        types::LayerProgress { phase: phase.into(), size_bytes, transferred_bytes, ..Default::default() }
    }

    #[test]
    fn the_total_leaves_out_what_was_there_before() {
        let layers = [
            layer(Phase::Present, 500, 0),
            layer(Phase::Downloading, 100, 40),
            layer(Phase::Done, 50, 0),
            layer(Phase::Waiting, 7, 0),
        ];
        assert_eq!(totals(&layers), (157, 90));
    }

    #[test]
    fn a_layer_of_which_more_came_than_it_has_fills_its_bar_and_no_more() {
        assert_eq!(moved(&layer(Phase::Downloading, 100, 130)), 100);
        assert_eq!(moved(&layer(Phase::Downloading, -1, -5)), 0);
    }
}
