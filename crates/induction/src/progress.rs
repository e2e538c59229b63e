//! Progress on standard error: a bar in a terminal, a line now and then elsewhere.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use induction_records::Stage;
use induction_study::{Caller, Progress as OfStage, Seen, Signal};

use crate::{
    interrupt::Interrupt,
    status::{Heartbeat, State, Status},
    terminal,
};

/// Where there is no terminal, a line at most this often.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// A run's state goes to its folder at most this often.
const STATUS_EVERY: Duration = Duration::from_secs(2);

/// Where progress is shown: several stages may run at once.
#[derive(Clone)]
pub struct Screen {
    bars: MultiProgress,
    show: Show,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Show {
    Bars,
    Lines,
    Nothing,
}

impl Screen {
    /// Standard error, or nowhere when `quiet`.
    pub fn new(quiet: bool) -> Self {
        let show = match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Show::Nothing,
            (false, true) => Show::Bars,
            (false, false) => Show::Lines,
        };
        Self { bars: MultiProgress::new(), show }
    }

    /// A line on what comes next, unless quiet.
    pub fn say(&self, message: &str) {
        if self.show != Show::Nothing {
            self.note(message);
        }
    }

    /// A line that stays, above the bars. Shown even when quiet: it says what the user would not
    /// expect.
    pub fn note(&self, message: &str) {
        // `suspend` takes the bars away while the line is printed.
        self.bars.suspend(|| eprintln!("{}", terminal::message(message)));
    }
}

/// A terminal that stages are called from: shows their progress, and stops them by a signal.
#[derive(Clone)]
pub struct Console {
    /// Where progress is shown.
    pub screen: Screen,
    /// Whether a signal came.
    pub interrupt: Interrupt,
}

impl Console {
    /// Shows no progress, and hears no signal.
    pub fn quiet() -> Self {
        Self { screen: Screen::new(true), interrupt: Interrupt::default() }
    }
}

impl Caller for Console {
    fn begin(&self, name: &str, run: &Path, stage: Stage, total: u64) -> Box<dyn OfStage> {
        Box::new(Progress::new(&self.screen, name, run, stage, total))
    }

    fn note(&self, message: &str) {
        self.screen.note(message);
    }

    fn signal(&self) -> Option<Signal> {
        self.interrupt.signal()
    }
}

/// The progress of one stage of one run.
struct Progress {
    bar: ProgressBar,
    label: String,
    total: u64,
    begun: Instant,
    first: Option<u64>,
    /// When the last plain line was printed; `None` in a terminal or when quiet.
    last_line: Option<Instant>,
    run: PathBuf,
    stage: Stage,
    last_status: Instant,
    _heartbeat: Heartbeat,
}

impl Progress {
    /// A stage of `total` steps of the run in a folder, where its state is kept, too.
    fn new(screen: &Screen, name: &str, run: &Path, stage: Stage, total: u64) -> Self {
        let label = match stage {
            Stage::Training => format!("{name}: training"),
            Stage::Measuring => format!("{name}: measuring"),
            Stage::Ablating => format!("{name}: removing heads"),
            Stage::Exploring => format!("{name}: reading texts"),
            Stage::Sampling => format!("{name}: sampling weights"),
        };
        Status::new(State::Working(stage), 0, total).write(run);
        let bar = match screen.show {
            Show::Bars => screen.bars.add(ProgressBar::new(total)),
            Show::Lines | Show::Nothing => ProgressBar::hidden(),
        };
        let style =
            ProgressStyle::with_template("{prefix:<22} [{bar:20}] {pos}/{len}  {msg}  {eta} left")
                .expect("the template is valid")
                .progress_chars("=> ");
        bar.set_style(style);
        bar.set_prefix(label.clone());
        let last_line = (screen.show == Show::Lines).then(Instant::now);
        Self {
            bar,
            label,
            total,
            begun: Instant::now(),
            first: None,
            last_line,
            run: run.to_path_buf(),
            stage,
            last_status: Instant::now(),
            _heartbeat: Heartbeat::new(run),
        }
    }
}

impl OfStage for Progress {
    fn at(&mut self, at: u64, seen: &dyn Fn() -> Seen) {
        let first = *self.first.get_or_insert_with(|| {
            // What was done before this process says nothing of its speed.
            self.bar.set_position(at);
            self.bar.reset_eta();
            at
        });
        let (bar, line) = (
            !self.bar.is_hidden(),
            self.last_line.is_some_and(|last| last.elapsed() >= LINE_EVERY),
        );
        let status = self.last_status.elapsed() >= STATUS_EVERY;
        if !(bar || line || status) {
            return;
        }
        let seen = seen();
        let share = (at - first).max(1) as f64 / (self.total - first).max(1) as f64;
        let left = self.begun.elapsed().as_secs_f64() * (1.0 / share - 1.0);
        if bar {
            self.bar.set_message(seen.to_string());
            self.bar.set_position(at);
        } else if line {
            eprintln!("{}  {at}/{}  {seen}  {left:.0} s left", self.label, self.total);
            self.last_line = Some(Instant::now());
        }
        if status {
            let status = Status {
                seconds_left: Some(left.round()),
                seen,
                ..Status::new(State::Working(self.stage), at, self.total)
            };
            status.write(&self.run);
            self.last_status = Instant::now();
        }
    }

    fn finish(&mut self) {
        self.bar.finish_and_clear();
    }
}
