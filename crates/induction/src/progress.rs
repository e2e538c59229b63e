//! Progress on standard error: a bar in a terminal, a line now and then elsewhere.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// Where there is no terminal, a line at most this often.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// The progress of one stage of one run.
pub struct Progress {
    bar: ProgressBar,
    label: String,
    total: u64,
    begun: Instant,
    first: Option<u64>,
    /// When the last plain line was printed; `None` in a terminal or when quiet.
    last_line: Option<Instant>,
}

impl Progress {
    /// A stage of `total` steps. Nothing is shown when `quiet`.
    pub fn new(label: &str, total: u64, quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = if quiet || !terminal { ProgressBar::hidden() } else { ProgressBar::new(total) };
        let style = ProgressStyle::with_template("{prefix:<24} [{bar:30}] {pos}/{len}  {msg}  {eta} left")
            .expect("the template is valid")
            .progress_chars("=> ");
        bar.set_style(style);
        bar.set_prefix(label.to_string());
        let last_line = (!quiet && !terminal).then(Instant::now);
        Self { bar, label: label.to_string(), total, begun: Instant::now(), first: None, last_line }
    }

    /// Step `at` is done.
    pub fn at(&mut self, at: u64, message: impl FnOnce() -> String) {
        let first = *self.first.get_or_insert_with(|| {
            // What was done before this process says nothing of its speed.
            self.bar.set_position(at);
            self.bar.reset_eta();
            at
        });
        if !self.bar.is_hidden() {
            self.bar.set_message(message());
            self.bar.set_position(at);
        } else if self.last_line.is_some_and(|last| last.elapsed() >= LINE_EVERY) {
            let share = (at - first).max(1) as f64 / (self.total - first).max(1) as f64;
            let left = self.begun.elapsed().as_secs_f64() * (1.0 / share - 1.0);
            eprintln!("{}  {at}/{}  {}  {:.0} s left", self.label, self.total, message(), left);
            self.last_line = Some(Instant::now());
        }
    }

    /// A line that stays.
    pub fn note(&self, message: &str) {
        if self.bar.is_hidden() { eprintln!("{message}") } else { self.bar.println(message) }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
