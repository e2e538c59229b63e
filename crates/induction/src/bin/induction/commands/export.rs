//! `induction export`.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use induction::{
    Error,
    model::{write_export_huggingface, write_export_transformer_lens},
    tensorboard,
    train::{list_snapshots, load_model, snapshot_folder},
};

use super::Program;
use crate::output::tell;

/// Write a snapshot in another library's layout, or the curves of runs for TensorBoard.
#[derive(clap::Args)]
pub(crate) struct Export {
    /// The run's folder; for TensorBoard also the folder that holds runs/.
    run: PathBuf,
    /// The snapshot's step [default: the last].
    #[arg(long)]
    step: Option<u64>,
    /// The layout.
    #[arg(long, value_enum)]
    format: Format,
    /// The folder to write.
    #[arg(long)]
    out: PathBuf,
}

impl Export {
    pub(crate) fn run(&self, program: &Program) -> Result<(), Error> {
        let made = export(&self.run, self.step, self.format, &self.out)?;
        let said: Vec<String> = made.iter().map(|folder| folder.display().to_string()).collect();
        tell(program.json, &serde_json::json!({"out": made}), &said.join("\n"))
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Format {
    /// TransformerLens 3.x: config.json and model.safetensors.
    TransformerLens,
    /// HuggingFace transformers (4.50 to 5.x): a folder with its own modelling code.
    Huggingface,
    /// TensorBoard: training's curves, the measurements of every snapshot, and every measure of
    /// every head.
    Tensorboard,
}

/// The folders that were written.
fn export(
    run: &Path,
    step: Option<u64>,
    format: Format,
    out: &Path,
) -> Result<Vec<PathBuf>, Error> {
    let write = match format {
        Format::Tensorboard => {
            return match step {
                Some(step) => {
                    Err(Error::Input(format!("--step {step}: TensorBoard gets all of them")))
                }
                None => tensorboard::export(run, out),
            };
        }
        Format::TransformerLens => write_export_transformer_lens,
        Format::Huggingface => write_export_huggingface,
    };
    let last = || list_snapshots(run).map(|steps| steps.last().copied());
    let step = step.map_or_else(last, |step| Ok(Some(step)))?;
    let step = step.ok_or_else(|| {
        Error::Input(format!("{}: it has no snapshot; train it first", run.display()))
    })?;
    let (config, params) = load_model(&snapshot_folder(run, step))?;
    write(&config, &params, out)?;
    // The synthetic task has none.
    let tokenizer = run.join("tokenizer.json");
    if matches!(format, Format::Huggingface) && tokenizer.exists() {
        let bytes = std::fs::read(&tokenizer).map_err(Error::io(&tokenizer))?;
        let copy = out.join("tokenizer.json");
        induction_files::write_atomic(&copy, &bytes).map_err(Error::io(&copy))?;
    }
    Ok(vec![out.to_path_buf()])
}
