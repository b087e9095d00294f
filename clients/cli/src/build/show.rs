//! A build on its way: steps and what they write, as lines, as a live tree, as JSON, or not at all.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tonic::transport::Channel;

use super::flags::ProgressKind;
use super::lines::Lines;
use super::written::Written;
use crate::api::v1::build_service_client::BuildServiceClient;
use crate::api::v1::operation_service_client::OperationServiceClient;
use crate::api::v1::types::build_step::State as StepState;
use crate::api::v1::types::operation::{Progress, State};
use crate::api::v1::types::{BuildStep, Operation};
use crate::api::v1::watch_operation_response::Update;
use crate::api::v1::{
    CancelOperationRequest, ReadBuildLogRequest, ReadBuildLogResponse, WatchOperationRequest,
};
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::render;

/// Characters of an instruction that a line of the tree shows.
const TREE_CHARS: usize = 70;
const TICK: Duration = Duration::from_millis(120);

/// Follows a build to its end and answers its operation. The first Ctrl-C cancels it, a second one leaves at once.
///
/// # Errors
/// The build's own failure, that of the watch, or that the caller interrupted it.
pub async fn follow(
    channel: Channel,
    begun: Operation,
    kind: ProgressKind,
    is_quiet: bool,
) -> Result<Operation, Failure> {
    let mut interrupts = Interrupts::new()?;
    let mut screen = Screen::new(kind, is_quiet);
    let mut operations = OperationServiceClient::new(channel.clone());
    let mut builds = BuildServiceClient::new(channel);
    let request = WatchOperationRequest { id: begun.id.clone(), ..Default::default() };
    let mut updates = operations.watch_operation(request).await?.into_inner();
    let request = ReadBuildLogRequest { operation_id: begun.id.clone(), ..Default::default() };
    let mut pieces = builds.read_build_log(request).await?.into_inner();
    let mut last = begun;
    let (mut has_pieces, mut has_updates) = (true, true);
    let mut exit_code = None;
    while has_pieces || has_updates {
        tokio::select! {
            // What a step wrote is shown before its end is.
            biased;
            code = interrupts.next() => {
                if exit_code.is_some() {
                    return Err(Failure::interrupted("the build goes on without this command", "", code));
                }
                exit_code = Some(code);
                let request = CancelOperationRequest { id: last.id.clone(), ..Default::default() };
                operations.cancel_operation(request).await?;
            }
            // A step that never stops writing must not keep its own name from coming.
            piece = pieces.message(), if has_pieces && !(has_updates && screen.waits_for_a_name()) => match piece? {
                Some(piece) => screen.write(&piece)?,
                None => has_pieces = false,
            },
            update = updates.message(), if has_updates => match update? {
                Some(update) => {
                    if let Some(Update::Operation(state)) = update.update {
                        if let Some(Progress::BuildProgress(progress)) = &state.progress {
                            screen.show(&progress.steps)?;
                        }
                        last = state;
                    }
                }
                None => has_updates = false,
            },
        }
    }
    screen.end();
    match (last.state(), exit_code) {
        (State::Succeeded, _) => Ok(last),
        (State::Cancelled, Some(code)) => Err(Failure::interrupted("cancelled", "", code)),
        (State::Running | State::Unspecified, _) => Err(Failure::cut_off("build")),
        (State::Failed | State::Cancelled, _) => {
            Err(last.failure.as_ref().map_or_else(|| Failure::new("cancelled", ""), Failure::recorded))
        }
    }
}

enum Screen {
    Nothing,
    Json(BTreeMap<u32, i32>),
    Lines(Lines<std::io::Stderr>),
    Tree { all: MultiProgress, bars: BTreeMap<u32, ProgressBar>, written: Written },
}

impl Screen {
    fn new(kind: ProgressKind, is_quiet: bool) -> Self {
        let kind = match kind {
            ProgressKind::Auto if std::io::stderr().is_terminal() => ProgressKind::Tty,
            ProgressKind::Auto => ProgressKind::Plain,
            kind => kind,
        };
        match kind {
            _ if is_quiet => Self::Nothing,
            ProgressKind::Json => Self::Json(BTreeMap::new()),
            ProgressKind::Tty => Self::Tree {
                all: MultiProgress::with_draw_target(ProgressDrawTarget::stderr()),
                bars: BTreeMap::new(),
                written: Written::default(),
            },
            _ => Self::Lines(Lines::new(std::io::stderr())),
        }
    }

    fn show(&mut self, steps: &[BuildStep]) -> Result<(), Failure> {
        match self {
            Self::Nothing => {}
            Self::Json(states) => {
                for step in changed(states, steps) {
                    render::line(render::json(step).to_string())?;
                }
            }
            Self::Lines(lines) => lines.show(steps),
            Self::Tree { all, bars, .. } => {
                for step in steps {
                    draw(all, bars, step);
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, piece: &ReadBuildLogResponse) -> Result<(), Failure> {
        let text = String::from_utf8_lossy(&piece.data);
        match self {
            Self::Nothing => {}
            Self::Json(_) => render::line(render::json(piece).to_string())?,
            Self::Lines(lines) => lines.write(piece.step, text.into_owned()),
            Self::Tree { all, written, .. } => {
                for part in written.parts(piece.step, &text) {
                    // The terminal that the tree is drawn on; who reads it no more needs no line.
                    let _ = all.println(format!("   #{} {}", piece.step, part.text));
                }
            }
        }
        Ok(())
    }

    /// What was written last cannot be shown before it is known which step that is.
    fn waits_for_a_name(&self) -> bool {
        matches!(self, Self::Lines(lines) if lines.waits_for_a_name())
    }

    fn end(&mut self) {
        match self {
            Self::Lines(lines) => lines.end(),
            Self::Tree { bars, .. } => bars.values().for_each(ProgressBar::abandon),
            _ => {}
        }
    }
}

/// Steps whose state is another one than it was.
pub fn changed<'s>(
    states: &'s mut BTreeMap<u32, i32>,
    steps: &'s [BuildStep],
) -> impl Iterator<Item = &'s BuildStep> {
    steps.iter().filter(|step| states.insert(step.number, step.state) != Some(step.state))
}

/// The step as lines and the tree call it.
pub fn title(step: &BuildStep) -> String {
    format!("[{}] {}", render::printable(&step.stage), render::printable(&step.instruction))
}

/// How a step ended, or nothing.
pub fn line_of(step: &BuildStep) -> Option<String> {
    match step.state() {
        StepState::Done => Some(format!("DONE {} {}", title(step), seconds(step))),
        StepState::Cached => Some(format!("CACHED {}", title(step))),
        StepState::Failed => Some(format!("ERROR {}", title(step))),
        StepState::Unspecified | StepState::Pending | StepState::Running | StepState::Skipped => None,
    }
}

/// How long a step took, or has taken.
fn seconds(step: &BuildStep) -> String {
    let nanos =
        |time: &prost_types::Timestamp| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    let span = match (&step.start_time, &step.end_time) {
        (Some(start), Some(end)) => nanos(end) - nanos(start),
        _ => 0,
    };
    format!("{}.{}s", span / 1_000_000_000, span / 100_000_000 % 10)
}

fn draw(all: &MultiProgress, bars: &mut BTreeMap<u32, ProgressBar>, step: &BuildStep) {
    let state = step.state();
    if matches!(state, StepState::Unspecified | StepState::Pending | StepState::Skipped) {
        return;
    }
    let bar = bars.entry(step.number).or_insert_with(|| {
        let style = ProgressStyle::with_template("{spinner} {msg}").expect("the template is valid");
        let bar = all.add(ProgressBar::new_spinner().with_style(style));
        bar.enable_steady_tick(TICK);
        bar
    });
    if bar.is_finished() {
        return;
    }
    let name = render::shorten(&title(step), TREE_CHARS);
    match state {
        StepState::Cached => bar.abandon_with_message(format!("{name} CACHED")),
        StepState::Done => bar.abandon_with_message(format!("{name} {}", seconds(step))),
        StepState::Failed => bar.abandon_with_message(format!("{name} ERROR")),
        _ => bar.set_message(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_told_once_a_state_and_with_its_time() {
        let time = |seconds, nanos| Some(prost_types::Timestamp { seconds, nanos });
        let mut step = BuildStep {
            number: 3,
            stage: "app".into(),
            instruction: "RUN make".into(),
            ..Default::default()
        };
        step.set_state(StepState::Running);
        let mut states = BTreeMap::new();
        assert_eq!(changed(&mut states, std::slice::from_ref(&step)).count(), 1);
        assert_eq!(changed(&mut states, std::slice::from_ref(&step)).count(), 0);
        assert_eq!((title(&step), line_of(&step)), ("[app] RUN make".to_owned(), None));
        step.set_state(StepState::Done);
        (step.start_time, step.end_time) = (time(10, 900_000_000), time(12, 0));
        assert_eq!(line_of(&step).unwrap(), "DONE [app] RUN make 1.1s");
    }
}
