//! `induction scan`.

use std::path::{Path, PathBuf};

use induction::{
    Error, hub,
    records::ModelScan,
    report,
    scan::{self, Patterns, Settings, read_tokens, scan_models},
    tokenizer::Texts,
};

use super::Program;
use crate::output::{print_line, show};

/// Which heads of a trained model are induction heads, and what they do.
///
/// A model is a run, a snapshot, a GGUF file, or a folder as HuggingFace (two dozen families,
/// listed in the README) or TransformerLens store it; hf:OWNER/NAME[/FILE.gguf][@REVISION] is one
/// on HuggingFace's hub (feature `hub`). With --tokens: the losses and head scores on those tokens.
/// Without: head scores, losses on repeated random tokens, in-context learning on --text, what is
/// lost without the induction heads, and argument 4's prompts.
#[derive(clap::Args)]
pub(crate) struct Scan {
    /// The model; several make a curve, as do the checkpoints in a folder (step1000, checkpoint-500),
    /// which go by their steps.
    #[arg(required = true)]
    models: Vec<PathBuf>,
    /// A JSON list of token ids, used as they are.
    #[arg(long, conflicts_with_all = ["text", "text_field", "windows", "out", "html", "ids_below", "prompts"])]
    tokens: Option<PathBuf>,
    /// Also the attention pattern of a head (LAYER:HEAD from 0), or of all.
    #[arg(long, value_name = "L:H|all", requires = "tokens")]
    pattern: Option<Patterns>,
    /// A corpus for the ICL score, as `reproduce --corpus` takes it: a file (.jsonl, .csv, .txt,
    /// .md, ...) or a folder; given several times, all of them.
    #[arg(long)]
    text: Vec<PathBuf>,
    /// The key of that text's lines of JSON, or the column, that holds the text [default: text,
    /// content, story, body, document, messages, conversations or conversation].
    #[arg(long, value_name = "KEY", requires = "text")]
    text_field: Option<String>,
    /// Windows of the text [default: 16].
    #[arg(long, requires = "text", value_parser = clap::value_parser!(u16).range(1..))]
    windows: Option<u16>,
    /// Prompts of each measure of what heads do by cause: copying, the induction pattern, copy
    /// suppression, function vectors, what feeds the best heads; 0 leaves them out [default: 16;
    /// on another device than cpu, or of more than 500M parameters, 0].
    #[arg(long, value_name = "N")]
    prompts: Option<u16>,
    /// Draw random tokens from ids below N alone; a BPE gives its common tokens the low ids.
    #[arg(long, value_name = "N")]
    ids_below: Option<usize>,
    /// A folder for scan.json (of several models, a folder each).
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Also a page with the figures, in one file that works offline.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl Scan {
    pub(crate) fn run(&self, program: &Program) -> Result<(), Error> {
        match &self.tokens {
            Some(tokens) => self.on_tokens(tokens, program),
            None => self.whole(program),
        }
    }

    /// Losses and head scores on the user's tokens.
    fn on_tokens(&self, tokens: &Path, program: &Program) -> Result<(), Error> {
        let [model] = self.models.as_slice() else {
            return Err(Error::Input(format!(
                "--tokens: expected one model, found {}",
                self.models.len()
            )));
        };
        let tokens = read_tokens(tokens)?;
        let model = hub::fetch(model, &program.console.screen)?;
        let patterns = self.pattern.unwrap_or(Patterns::None);
        let result = scan::scan(scan::open(&model)?, &tokens, patterns, program.device)?;
        if program.json { show(&result) } else { print_line(&scan::text::of_tokens(&result)) }
    }

    /// All that is asked of a model.
    fn whole(&self, program: &Program) -> Result<(), Error> {
        let settings = Settings {
            text: (!self.text.is_empty())
                .then(|| Texts { paths: self.text.clone(), text_field: self.text_field.clone() }),
            windows: self.windows.map_or(scan::WINDOWS, usize::from),
            examples: scan::EXAMPLES,
            prompts: self.prompts.map(usize::from),
            ids_below: self.ids_below,
        };
        let Program { device, json, console, .. } = program;
        let screen = &console.screen;
        // First what can be refused: nobody waits for a scan to learn that it has no place.
        if let Some(page) = &self.html {
            check_place(page)?;
        }
        // All downloads first: nobody waits for a scan to learn that the next model is not there.
        let fetched = self.models.iter().map(|model| hub::fetch(model, screen));
        let models: Vec<PathBuf> = fetched.collect::<Result<_, _>>()?;
        let models = scan::in_order(&models);
        let scans = scan_models(&models, &settings, *device, self.out.as_deref(), &|line| {
            screen.say(line);
        })?;
        match (json, scans.as_slice()) {
            (true, [one]) => show(one),
            (true, all) => show(&all),
            (false, all) => print_line(&scan::text::of_models(all)),
        }?;
        // Last: what was found is not lost with a page that cannot be written.
        self.html.as_ref().map_or(Ok(()), |path| write_page(&scans, path))
    }
}

/// Refuses a file that cannot be written.
fn check_place(page: &Path) -> Result<(), Error> {
    let folder = page.parent().filter(|folder| !folder.as_os_str().is_empty());
    if page.is_dir() || !folder.unwrap_or(Path::new(".")).is_dir() {
        return Err(Error::Input(format!(
            "--html {}: expected a file in a folder that is there",
            page.display()
        )));
    }
    Ok(())
}

/// Writes the page about these models.
fn write_page(scans: &[ModelScan], path: &Path) -> Result<(), Error> {
    let scans: Vec<_> =
        scans.iter().map(|scan| report::scan_of(scan.clone(), scan.model.name.clone())).collect();
    let page = report::scan_page(&scans);
    induction_files::write_atomic(path, page.as_bytes()).map_err(Error::io(path))
}
