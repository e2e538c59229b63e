//! The revision to compare with: which one it is, its checkout, its release binary.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Which revision to compare with, or why there is none.
#[derive(Debug, PartialEq)]
pub(super) enum Base {
    Commit(String),
    Missing(String),
}

/// The commit of `reference`; without one, where this branch left the remote's main branch, or on
/// that branch itself the commit before.
pub(super) fn find(root: &Path, reference: Option<&str>) -> Result<Base, String> {
    let commit = |reference: &str| {
        git(
            root,
            &[
                "rev-parse",
                "--verify",
                "--quiet",
                "--end-of-options",
                &format!("{reference}^{{commit}}"),
            ],
        )
    };
    if let Some(reference) = reference {
        let found =
            commit(reference).map_err(|_| format!("--base {reference} names no commit here"))?;
        return Ok(Base::Commit(found));
    }
    let remotes = git(root, &["remote"])?;
    let remote = remotes.lines().find(|&name| name == "origin").or(remotes.lines().next());
    let mains = ["HEAD", "main", "master"]
        .map(|main| format!("refs/remotes/{}/{main}", remote.unwrap_or("origin")));
    let Some(main) = mains.iter().find_map(|main| commit(main).ok()) else {
        return Ok(Base::Missing(
            "no remote main branch to compare with: name a revision by --base".into(),
        ));
    };
    let Ok(left) = git(root, &["merge-base", "HEAD", &main]) else {
        return Ok(Base::Missing(
            "the remote's main branch shares no history with this one as far as it is here".into(),
        ));
    };
    let unchanged = git(root, &["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    if left != commit("HEAD")? || !unchanged {
        return Ok(Base::Commit(left));
    }
    let before = commit("HEAD^").map(Base::Commit);
    Ok(before.unwrap_or(Base::Missing(
        "nothing differs from the remote's main branch, and no commit before it is here".into(),
    )))
}

/// Checks the commit out in `folder` and builds it there, each anew only where the last call left
/// another one.
pub(super) fn build(root: &Path, folder: &Path, commit: &str) -> Result<PathBuf, String> {
    let tree = folder.join("tree");
    let is_there = tree.join(".git").exists()
        && git(&tree, &["rev-parse", "--verify", "--quiet", "HEAD"]).is_ok();
    if is_there {
        git(&tree, &["checkout", "--quiet", "--force", "--detach", commit])?;
    } else {
        // What a cache brings back may be a tree of another clone.
        if tree.exists() {
            fs::remove_dir_all(&tree).map_err(|error| format!("{}: {error}", tree.display()))?;
        }
        git(root, &["worktree", "prune"])?;
        let path = tree.display().to_string();
        git(root, &["worktree", "add", "--quiet", "--force", "--detach", &path, commit])?;
    }
    super::build(&tree, &folder.join("target"))
}

/// What git prints.
pub(super) fn git(folder: &Path, arguments: &[&str]) -> Result<String, String> {
    let output =
        Command::new("git").args(arguments).current_dir(folder).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("cannot run git: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_string());
    }
    Err(format!("git {} failed: {}", arguments[0], String::from_utf8_lossy(&output.stderr).trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(folder: &Path, text: &str) -> String {
        fs::write(folder.join("file"), text).unwrap();
        git(folder, &["add", "file"]).unwrap();
        let author =
            ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"];
        git(folder, &[&author[..], &["commit", "--quiet", "-m", text]].concat()).unwrap();
        git(folder, &["rev-parse", "HEAD"]).unwrap()
    }

    #[test]
    fn the_base_is_where_a_branch_left_main() {
        let folder = std::env::temp_dir().join(format!("xtask-base-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        git(&folder, &["init", "--quiet"]).unwrap();
        let first = commit(&folder, "first");
        assert!(matches!(find(&folder, None), Ok(Base::Missing(_))));
        assert_eq!(find(&folder, Some("HEAD")), Ok(Base::Commit(first.clone())));
        for wrong in ["nothing", "--all", ""] {
            assert_eq!(
                find(&folder, Some(wrong)),
                Err(format!("--base {wrong} names no commit here"))
            );
        }
        git(&folder, &["remote", "add", "upstream", "."]).unwrap();
        git(&folder, &["update-ref", "refs/remotes/upstream/main", &first]).unwrap();
        // On main, and nothing before it.
        assert!(matches!(find(&folder, None), Ok(Base::Missing(_))));
        fs::write(folder.join("file"), "changed").unwrap();
        assert_eq!(find(&folder, None), Ok(Base::Commit(first.clone())));
        let second = commit(&folder, "second");
        assert_eq!(find(&folder, None), Ok(Base::Commit(first.clone())));
        git(&folder, &["update-ref", "refs/remotes/upstream/main", &second]).unwrap();
        // On main itself: the commit before.
        assert_eq!(find(&folder, None), Ok(Base::Commit(first)));
        fs::remove_dir_all(folder).unwrap();
    }
}
