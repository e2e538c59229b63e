//! The batch scripts: what a task does around the program, whose exit code and signals say whether
//! it starts again.

use super::{Options, Stage};

/// Times that a task may be started again: near its time limit, because another process holds the
/// run, because it was killed.
const RESTARTS: [(&str, u32); 3] = [("near_limit", 1000), ("held", 20), ("killed", 5)];

/// What a script needs to know.
pub(super) struct Content<'a> {
    pub(super) stage: Stage,
    pub(super) options: &'a Options,
    /// The program, by its absolute path.
    pub(super) program: &'a str,
    /// The reproduction's folder, by its absolute path.
    pub(super) out: &'a str,
    /// Where relative paths in the specs begin.
    pub(super) here: &'a str,
    pub(super) sweep: &'a str,
    /// Name and the hash of the spec of each run, by the number of its task.
    pub(super) runs: &'a [(String, String)],
}

impl Content<'_> {
    pub(super) fn script(&self) -> String {
        let Options { cpus_per_task, device, bf16, .. } = self.options;
        let mut options = format!("--threads {cpus_per_task}");
        if self.stage == Stage::Train {
            options += &format!(" --device {device}{}", if *bf16 { " --bf16" } else { "" });
        }
        let list = |take: fn(&(String, String)) -> &String| {
            self.runs.iter().map(|run| quoted(take(run))).collect::<Vec<_>>().join(" ")
        };
        let mut text = format!(
            "{HEAD}\nprogram={}\nout={}\nhere={}\nsweep={}\nstage={}\noptions=({options})\n",
            quoted(self.program),
            quoted(self.out),
            quoted(self.here),
            self.sweep,
            self.stage.name(),
        );
        if self.stage == Stage::Report {
            text += "label=report\njob=$SLURM_JOB_ID\narguments=(report \"$out\")\n";
        } else {
            text +=
                &format!("runs=({})\nspecs=({})\n{TASK}", list(|run| &run.0), list(|run| &run.1));
        }
        for (name, most) in RESTARTS {
            text += &format!("{name}={most}\n");
        }
        text + BODY
    }
}

/// A word for a shell, whatever is in it.
pub fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./,:=%+@".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_string();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

const HEAD: &str = "\
#!/bin/bash
# Written by `induction reproduce --executor slurm`. A task may be killed and started again at any moment: it goes on from
# what is on disk.";

const TASK: &str = r#"number=$SLURM_ARRAY_TASK_ID
label="${runs[number]}, $stage"
# Not $SLURM_JOB_ID: of one task of each array that is the number of the whole array.
job=${SLURM_ARRAY_JOB_ID}_$number
arguments=(run "$out/slurm/specs/${runs[number]}.toml" --blake3 "${specs[number]}" --out "$out/runs/${runs[number]}"
    --data "$out/data" --stage "$stage")
"#;

const BODY: &str = r#"
say() { printf '%s %s: %s\n' "$(date '+%F %T')" "$label" "$*" >&2; }

if [ "$(cat -- "$out/slurm/token" 2>/dev/null)" != "$sweep" ] || ! [ -x "$program" ] || ! cd -- "$here"; then
    say "on ${SLURMD_NODENAME:-$(uname -n)}, $out/slurm/token, $program or $here is not what it was where this was submitted:" \
        "all three must be on a file system that all nodes share"
    exit 2
fi

child=
asked= # by whom the program was asked to stop: limit, or term
stop() {
    woken=1
    [ "$asked" = term ] || asked=$1
    [ -z "$child" ] || kill -TERM "$child" 2>/dev/null
}
trap 'stop limit' USR1
trap 'stop term' TERM

say "on ${SLURMD_NODENAME:-$(uname -n)}, start $((${SLURM_RESTART_COUNT:-0} + 1))"
"$program" "${options[@]}" "${arguments[@]}" &
child=$!
[ -z "$asked" ] || kill -TERM "$child" 2>/dev/null
while :; do
    woken=
    wait "$child"
    code=$?
    # A signal to this shell ends `wait`, too, with a number above 128.
    [ -n "$woken" ] && [ "$code" -gt 128 ] || break
done

# Whoever sends TERM (pre-emption, scancel) starts the job again himself, or does not want it any more.
if [ "$asked" = term ]; then
    say "stopped by a signal"
    exit "$code"
elif [ "$asked" = limit ] && { [ "$code" = 75 ] || [ "$code" -gt 128 ]; }; then
    why="the time limit is near" most=$near_limit
elif [ "$code" = 75 ]; then
    why="another process holds the run" most=$held
elif [ "$code" -gt 128 ]; then
    why="the program was killed (exit code $code)" most=$killed
elif [ "$code" = 0 ]; then
    exit 0
else
    say "failed with exit code $code; that stops no other run. The command that submitted it tries again. For a report without" \
        "this run, move its folder out of $out/runs, then: induction report $(printf %q "$out")"
    exit "$code"
fi

if [ "${SLURM_RESTART_COUNT:-0}" -ge "$most" ]; then
    say "$why, and this was started again $most times already: given up. The command that submitted it goes on from here"
    exit "$code"
fi
say "$why: to be started again"
for _ in 1 2 3 4 5 6 7 8 9 10 11 12; do
    scontrol requeue "$job" && exit 75
    # The signal that the requeueing itself sends.
    [ "$asked" = term ] && exit 75
    sleep 5 &
    wait $!
done
say "scontrol could not start it again. The command that submitted it goes on from here"
exit "$code"
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_they_must_be() {
        assert_eq!(quoted("/a/b-1.x"), "/a/b-1.x");
        assert_eq!(quoted(""), "''");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's $x"), r"'it'\''s $x'");
    }
}
