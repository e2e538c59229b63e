//! What the program says of itself: help with examples, completions, man pages.

use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory, FromArgMatches};
use clap_complete::Shell;
use induction::Error;

use crate::arguments::Arguments;

/// Examples of each command: why, and what to type.
const EXAMPLES: &[(&str, &[(&str, &str)])] = &[
    (
        "reproduce",
        &[
            (
                "a synthetic task, in 20 seconds",
                "induction reproduce --scale smoke --out out/smoke",
            ),
            (
                "what the larger one would take here",
                "induction reproduce --scale full --dry-run --out out/full",
            ),
            ("on your own text", "induction reproduce --corpus notes/ --out out/notes"),
            ("a study of your own", "induction reproduce --study study.toml --out out/study"),
            (
                "on a cluster",
                "induction reproduce --scale full --out out/full --executor slurm --partition cpu --time 2:00:00",
            ),
        ],
    ),
    (
        "forecast",
        &[
            ("will it come on this text?", "induction forecast notes/"),
            (
                "with twice the tokens, for a script",
                "induction forecast notes/ --tokens 12000000 --json",
            ),
        ],
    ),
    (
        "pilot",
        &[(
            "settings that show the change on another text",
            "induction pilot --corpus notes/ --out out/pilot",
        )],
    ),
    (
        "status",
        &[
            ("how far it is", "induction status out/laptop"),
            ("every ten seconds", "induction status out/laptop --watch 10"),
        ],
    ),
    (
        "run",
        &[
            ("all of one run", "induction run spec.toml --out out/mine"),
            ("only its measurements", "induction run spec.toml --out out/mine --stage measure"),
        ],
    ),
    ("cancel", &[("stop what Slurm was given", "induction cancel out/full")]),
    ("train", &[("or go on where it was stopped", "induction train spec.toml --out out/mine")]),
    (
        "measure",
        &[(
            "after training, or after a new measure was added",
            "induction measure out/laptop/runs/2L",
        )],
    ),
    (
        "explore",
        &[("follow a text of yours", "induction explore out/laptop/runs/2L --text poem.txt")],
    ),
    ("ablate", &[("what is lost without each head", "induction ablate out/laptop/runs/2L")]),
    (
        "llc",
        &[(
            "of the whole model and of two heads",
            "induction llc out/laptop/runs/2L --heads 0.1,1.2",
        )],
    ),
    (
        "report",
        &[
            ("again, from what is measured", "induction report out/laptop"),
            ("with a text of yours to explore", "induction report out/laptop --text poem.txt"),
            (
                "two reproductions side by side",
                "induction report out/laptop out/seed-1 --out out/both",
            ),
        ],
    ),
    (
        "scan",
        &[
            ("a model on disk", "induction scan SmolLM2-135M-Instruct.Q4_1.gguf"),
            (
                "drawn, and with the ICL score on a text",
                "induction scan gpt2/ --text notes/ --html gpt2.html",
            ),
            (
                "one head's attention on tokens of yours",
                "induction scan gpt2/ --tokens ids.json --pattern 5:1 --json",
            ),
        ],
    ),
    ("devices", &[("for a script", "induction devices --json")]),
    (
        "bench",
        &[("training steps of the default model", "induction bench train --layers 2 --threads 1")],
    ),
    (
        "export",
        &[
            (
                "the last snapshot, for HookedTransformer",
                "induction export out/laptop/runs/2L --format transformer-lens --out 2L-tl",
            ),
            (
                "every curve of every run, for TensorBoard",
                "induction export out/laptop --format tensorboard --out out/laptop/tensorboard",
            ),
        ],
    ),
    (
        "completions",
        &[(
            "for bash",
            "induction completions bash > ~/.local/share/bash-completion/completions/induction",
        )],
    ),
    ("man", &[("for this user", "induction man ~/.local/share/man/man1")]),
];

/// The whole command line, with its examples.
fn command() -> Command {
    EXAMPLES.iter().fold(Arguments::command(), |all, &(name, examples)| {
        let lines = examples.iter().map(|(why, line)| format!("\n  # {why}\n  {line}"));
        let text = format!("Examples:{}", lines.collect::<String>());
        all.mut_subcommand(name, |one| one.after_help(text))
    })
}

/// What this process was started with.
///
/// # Errors
/// clap's: wrong usage, or that help or the version was asked for.
pub(crate) fn parse() -> Result<Arguments, clap::Error> {
    Arguments::from_arg_matches(&command().try_get_matches()?)
}

/// A shell's completion script.
pub(crate) fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "induction", &mut script);
    String::from_utf8(script).expect("scripts are made of the names of options")
}

/// Writes a man page for the program and each of its commands into `folder`; their paths.
///
/// # Errors
/// The system's.
pub(crate) fn man(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    fn write(command: &Command, folder: &Path, written: &mut Vec<PathBuf>) -> Result<(), Error> {
        for one in
            command.get_subcommands().filter(|one| !one.is_hide_set() && one.get_name() != "help")
        {
            write(one, folder, written)?;
        }
        let page = clap_mangen::Man::new(command.clone());
        let path = folder.join(page.get_filename());
        let mut text = Vec::new();
        page.render(&mut text).map_err(Error::io(&path))?;
        induction_files::write_atomic(&path, &text).map_err(Error::io(&path))?;
        written.push(path);
        Ok(())
    }
    induction_files::make_folders(folder).map_err(Error::io(folder))?;
    let mut all = command();
    all.build();
    let mut written = Vec::new();
    write(&all, folder, &mut written)?;
    written.sort();
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_finds_no_fault() {
        command().debug_assert();
    }

    #[test]
    fn every_command_has_examples_and_each_is_understood() {
        let all = command();
        let names: Vec<&str> = all.get_subcommands().map(Command::get_name).collect();
        assert_eq!(names, EXAMPLES.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        for (name, examples) in EXAMPLES {
            for (_, line) in *examples {
                let words = line.split(" > ").next().unwrap_or_default().split(' ');
                let found = command().try_get_matches_from(words);
                assert_eq!(
                    found.unwrap_or_else(|e| panic!("{line}: {e}")).subcommand_name(),
                    Some(*name),
                    "{line}"
                );
            }
        }
    }

    /// What README and guide tell people to type.
    #[test]
    fn every_command_of_the_documents_is_understood() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut seen = 0;
        let mut documents = vec![root.join("README.md")];
        let docs = std::fs::read_dir(root.join("docs")).expect("the documents lie in docs/");
        documents.extend(docs.flatten().map(|entry| entry.path()));
        for document in
            documents.iter().filter(|path| path.extension().is_some_and(|end| end == "md"))
        {
            let text = std::fs::read_to_string(document).expect("a document is readable");
            let fenced = text.split("\n```").skip(1).step_by(2).flat_map(str::lines);
            for line in fenced
                .map(|line| line.trim_start_matches("$ ").trim_start_matches("target/release/"))
            {
                // `[--option]` in a synopsis, and what a shell makes of the rest, are not for clap.
                let words =
                    line.split(" # ").next().unwrap_or_default().split(['>', '|', ';', '&']).next();
                let words: Vec<&str> = words.unwrap_or_default().split_whitespace().collect();
                let is_ours = matches!(words.as_slice(), ["induction", second, ..] if second.chars().all(|c| c.is_ascii_lowercase()));
                if is_ours && !line.contains("...") {
                    command()
                        .try_get_matches_from(words)
                        .unwrap_or_else(|e| panic!("{}: {line}: {e}", document.display()));
                    seen += 1;
                }
            }
        }
        assert!(seen > 10, "only {seen} commands were found");
    }

    #[test]
    fn completions_and_man_pages_name_every_command() {
        let script = completions(Shell::Bash);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let pages = man(folder.path()).expect("pages are written");
        for (name, _) in EXAMPLES {
            assert!(script.contains(name), "{name}");
            let page = folder.path().join(format!("induction-{name}.1"));
            assert!(pages.contains(&page), "{name}");
            let text = std::fs::read_to_string(page).expect("a page is text");
            assert!(text.contains(".TH") && text.contains("Examples:"), "{text}");
        }
    }
}
