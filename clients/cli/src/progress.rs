//! Progress of an operation: bars on a terminal, lines elsewhere, nothing with `-q`. Always on standard error.

use std::collections::BTreeMap;
use std::io::IsTerminal;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::api::v1::types;
use crate::api::v1::types::layer_progress::Phase;
use crate::render;
use crate::units;

/// Shows the states of one operation as they come.
pub struct Progress {
    kind: Kind,
    layers: BTreeMap<String, Layer>,
}

enum Kind {
    Quiet,
    Lines,
    Bars(MultiProgress),
}

struct Layer {
    phase: Phase,
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
        Self { kind, layers: BTreeMap::new() }
    }

    /// Shows where the operation stands now.
    pub fn show(&mut self, operation: &types::Operation) {
        let layers = match &operation.progress {
            Some(types::operation::Progress::PullProgress(progress)) => &progress.layers,
            Some(types::operation::Progress::LoadProgress(progress)) => &progress.layers,
            Some(types::operation::Progress::PushProgress(progress)) => &progress.layers,
            _ => return,
        };
        for layer in layers {
            self.show_layer(layer);
        }
    }

    /// The last state is on the screen; nothing is drawn any more.
    pub fn end(&mut self) {
        for layer in self.layers.values() {
            if let Some(bar) = &layer.bar {
                bar.abandon();
            }
        }
    }

    fn show_layer(&mut self, layer: &types::LayerProgress) {
        let phase = layer.phase();
        let id = if layer.digest.is_empty() { &layer.diff_id } else { &layer.digest };
        let short = render::printable(render::short_id(id));
        match &self.kind {
            Kind::Quiet => {}
            Kind::Lines => {
                let known = self.layers.get(id).map(|known| known.phase);
                if known != Some(phase) {
                    eprintln!("{short}: {}", line(layer, phase));
                }
                self.layers.insert(id.clone(), Layer { phase, bar: None });
            }
            Kind::Bars(bars) => {
                let entry = self.layers.entry(id.clone()).or_insert_with(|| Layer {
                    phase,
                    bar: Some(bars.add(new_bar(&short, layer.size_bytes))),
                });
                entry.phase = phase;
                if let Some(bar) = &entry.bar {
                    draw(bar, layer, phase);
                }
            }
        }
    }
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
        "sending [{bar:32}] {bytes:>10}/{total_bytes:<10}"
    } else {
        "sending {bytes:>10}"
    };
    let style = ProgressStyle::with_template(template).expect("the template is valid").progress_chars("=> ");
    ProgressBar::with_draw_target(size, ProgressDrawTarget::stderr()).with_style(style)
}

fn new_bar(id: &str, size_bytes: i64) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix}: {msg:11} [{bar:32}] {bytes:>10}/{total_bytes:<10}")
        .expect("the template is valid")
        .progress_chars("=> ");
    let bar = ProgressBar::new(u64::try_from(size_bytes).unwrap_or(0)).with_style(style);
    bar.set_prefix(id.to_owned());
    bar
}

fn draw(bar: &ProgressBar, layer: &types::LayerProgress, phase: Phase) {
    bar.set_message(word(phase));
    let size = u64::try_from(layer.size_bytes).unwrap_or(0);
    bar.set_length(size);
    let position = match phase {
        Phase::Done | Phase::Present | Phase::Mounted => size,
        _ => u64::try_from(layer.transferred_bytes).unwrap_or(0),
    };
    bar.set_position(position);
    if matches!(phase, Phase::Done | Phase::Present | Phase::Mounted) && !bar.is_finished() {
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
        Phase::Present => "present",
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
