//! Runs on workers that are taken away: a simulation by events, the same for the same seed.
//!
//! A free worker takes the first run of the order that may begin. It is stopped after a time that
//! is exponentially distributed, or at the time limit; what is not on disk is lost, and the run may
//! begin again after a delay. The worker is free at once for another run: whoever takes a device
//! away gives another.

/// A stage of a run: so many pieces of the same length, each on disk once it is done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) seconds: f64,
    pub(super) pieces: u64,
    /// Whether a warning saves what is done of a piece. Training does so; measuring loses the
    /// snapshot that it is at.
    pub(super) saves: bool,
}

/// A run: its stages, one after the other.
#[derive(Clone, Debug)]
pub(super) struct Job(pub(super) Vec<Part>);

impl Job {
    /// A run of one stage.
    #[cfg(test)]
    pub(super) fn of(seconds: f64, pieces: u64) -> Self {
        Self(vec![Part { seconds, pieces, saves: true }])
    }

    pub(super) fn seconds(&self) -> f64 {
        self.0.iter().map(|part| part.seconds).sum()
    }

    /// What stays of the first `done` seconds of work when it is stopped there.
    fn kept(&self, done: f64, warned: bool) -> f64 {
        let mut before = 0.0;
        for part in &self.0 {
            if done >= before + part.seconds {
                before += part.seconds;
                continue;
            }
            if warned && part.saves {
                return done;
            }
            // A piece that just ended must not fall short of itself by a rounding.
            let piece = part.seconds / part.pieces as f64;
            return before + piece * ((done - before) / piece + 1e-9).floor();
        }
        before
    }
}

/// What befalls the runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    pub(super) workers: usize,
    /// Mean seconds of work between pre-emptions of a worker; `None`: there are none.
    pub(super) between: Option<f64>,
    /// Seconds from a stop until the run may go on.
    pub(super) delay: f64,
    /// Whether a stop announces itself in time to save.
    pub(super) warned: bool,
    /// Seconds after which a run is stopped in any case.
    pub(super) limit: Option<f64>,
    pub(super) seed: u64,
}

/// What a simulation ends with, in seconds and, summed over workers, seconds of work.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Outcome {
    pub(super) makespan: f64,
    /// Work, lost work included.
    pub(super) busy: f64,
    pub(super) lost: f64,
    pub(super) stops: u64,
}

/// Where a run is.
#[derive(Clone, Copy, Debug)]
enum State {
    /// It may begin at that time.
    Waits(f64),
    /// It works until that time.
    Works {
        from: f64,
        until: f64,
    },
    Done,
}

/// A number from 0 to 1, without 1, for each attempt at a job: another order or delay meets the
/// same pre-emptions. This is the finalizer of SplitMix64, since `induction-random`, where all else
/// is drawn, would build a library in C first.
fn uniform(seed: u64, job: u64, attempt: u64) -> f64 {
    let mix = |x: u64| {
        let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    (mix(mix(mix(seed) ^ job) ^ attempt) >> 11) as f64 / (1u64 << 53) as f64
}

/// Works off `jobs` in their order. `None`: one of them never ends, because the limit always comes
/// before its next piece is on disk.
pub(super) fn simulate(jobs: &[Job], weather: &Weather) -> Option<Outcome> {
    let mut outcome = Outcome::default();
    let mut states = vec![State::Waits(0.0); jobs.len()];
    let mut done = vec![0.0f64; jobs.len()];
    let mut attempts = vec![0u64; jobs.len()];
    let mut now = 0.0f64;
    loop {
        let mut free = weather.workers
            - states.iter().filter(|state| matches!(state, State::Works { .. })).count();
        for (job, state) in states.iter_mut().enumerate() {
            if matches!(*state, State::Waits(from) if from <= now) && free > 0 {
                free -= 1;
                let left = jobs[job].seconds() - done[job];
                let pre_empted = weather.between.map_or(f64::INFINITY, |mean| {
                    attempts[job] += 1;
                    -mean * (1.0 - uniform(weather.seed, job as u64, attempts[job])).ln()
                });
                let works = left.min(pre_empted).min(weather.limit.unwrap_or(f64::INFINITY));
                *state = State::Works { from: now, until: now + works };
            }
        }
        let next = states.iter().filter_map(|state| match *state {
            State::Works { until, .. } => Some(until),
            State::Waits(from) if free > 0 => Some(from),
            _ => None,
        });
        let Some(time) = next.min_by(f64::total_cmp) else { return Some(outcome) };
        now = time;
        for (job, state) in states.iter_mut().enumerate() {
            let State::Works { from, until } = *state else { continue };
            if until > now {
                continue;
            }
            let worked = until - from;
            outcome.busy += worked;
            let reached = done[job] + worked;
            if reached >= jobs[job].seconds() * (1.0 - 1e-12) {
                *state = State::Done;
                outcome.makespan = outcome.makespan.max(now);
                continue;
            }
            let kept = jobs[job].kept(reached, weather.warned).max(done[job]);
            if weather.limit.is_some_and(|limit| worked >= limit) && kept <= done[job] {
                return None;
            }
            outcome.lost += reached - kept;
            outcome.stops += 1;
            done[job] = kept;
            *state = State::Waits(now + weather.delay);
        }
    }
}

/// What many simulations say: means, and how sure they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Summary {
    pub(super) makespan: f64,
    pub(super) busy: f64,
    pub(super) lost: f64,
    /// Standard error of the mean makespan.
    pub(super) stderr: f64,
    /// The makespan that one draw in twenty exceeds.
    pub(super) late: f64,
    pub(super) stops: f64,
}

/// A piece of more than so many times the mean between stops is begun over a thousand times: it is
/// taken as never done.
const HOPELESS: f64 = 7.0;

/// `draws` simulations, with the seeds from the weather's on. `None`: a run never ends.
pub(super) fn many(jobs: &[Job], weather: &Weather, draws: u64) -> Option<Summary> {
    let lost = |part: &&Part| !(weather.warned && part.saves);
    let pieces = jobs
        .iter()
        .flat_map(|job| &job.0)
        .filter(lost)
        .map(|part| part.seconds / part.pieces as f64);
    if weather.between.is_some_and(|mean| pieces.fold(0.0, f64::max) > HOPELESS * mean) {
        return None;
    }
    // Without pre-emption nothing is drawn.
    let draws = if weather.between.is_some() { draws } else { 1 };
    let outcomes: Vec<Outcome> = (0..draws)
        .map(|draw| simulate(jobs, &Weather { seed: weather.seed + draw, ..*weather }))
        .collect::<Option<_>>()?;
    let n = draws as f64;
    let mean = |of: fn(&Outcome) -> f64| outcomes.iter().map(of).sum::<f64>() / n;
    let makespan = mean(|o| o.makespan);
    let variance =
        outcomes.iter().map(|o| (o.makespan - makespan).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    let mut sorted: Vec<f64> = outcomes.iter().map(|o| o.makespan).collect();
    sorted.sort_by(f64::total_cmp);
    let late = sorted[(outcomes.len() * 19).div_ceil(20) - 1];
    let (busy, lost, stops) = (mean(|o| o.busy), mean(|o| o.lost), mean(|o| o.stops as f64));
    Some(Summary { makespan, busy, lost, stops, stderr: (variance / n).sqrt(), late })
}

/// Expected seconds of one run alone on a worker, without warnings: for each of `pieces`, (exp(t /
/// mean) - 1) (mean + delay).
pub(super) fn expected(seconds: f64, pieces: u64, between: f64, delay: f64) -> f64 {
    let piece = seconds / pieces as f64;
    pieces as f64 * (piece / between).exp_m1() * (between + delay)
}

/// The same where every stop is announced: the work, and a delay for each stop.
pub(super) fn expected_warned(seconds: f64, between: f64, delay: f64) -> f64 {
    seconds * (1.0 + delay / between)
}

/// The longest run, or an equal share of the work: no schedule is shorter.
pub(super) fn bound(jobs: &[Job], workers: usize) -> f64 {
    let total: f64 = jobs.iter().map(Job::seconds).sum();
    jobs.iter().map(Job::seconds).fold(total / workers as f64, f64::max)
}

/// The longest first.
pub(super) fn longest_first(mut jobs: Vec<Job>) -> Vec<Job> {
    jobs.sort_by(|a, b| b.seconds().total_cmp(&a.seconds()));
    jobs
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAIR: Weather =
        Weather { workers: 1, between: None, delay: 0.0, warned: false, limit: None, seed: 0 };

    /// Within four standard errors of the mean of 4,000 draws.
    fn agrees(job: Job, weather: &Weather, expected: f64) {
        let found = many(&[job], weather, 4000).unwrap();
        let off = (found.makespan - expected).abs();
        assert!(
            off <= 4.0 * found.stderr + 1e-9,
            "{} +- {}, expected {expected}",
            found.makespan,
            found.stderr
        );
        assert!(found.stderr < 0.03 * expected);
    }

    #[test]
    fn one_run_takes_what_the_closed_forms_say() {
        for (length, delay) in [(0.5, 0.0), (1.0, 0.1), (2.0, 0.3)] {
            let weather = Weather { between: Some(1.0), delay, ..FAIR };
            agrees(Job::of(length, 1), &weather, (length.exp() - 1.0) * (1.0 + delay));
            agrees(
                Job::of(length, 10),
                &weather,
                10.0 * ((length / 10.0).exp() - 1.0) * (1.0 + delay),
            );
            let warned = Weather { warned: true, ..weather };
            agrees(Job::of(length, 1), &warned, length + length * delay);
        }
    }

    #[test]
    fn stages_lose_their_own_pieces() {
        let part = |seconds, pieces, saves| Part { seconds, pieces, saves };
        let weather = Weather { between: Some(1.0), warned: true, delay: 0.1, ..FAIR };
        let job = Job(vec![part(2.0, 1, true), part(1.0, 4, false)]);
        agrees(job, &weather, 2.0 * 1.1 + 4.0 * 0.25f64.exp_m1() * 1.1);
    }

    #[test]
    fn list_schedules_keep_grahams_bounds() {
        for workers in 2..=3usize {
            for case in 0..60 {
                let jobs: Vec<Job> =
                    (0..7).map(|job| Job::of(1.0 + 9.0 * uniform(case, job, 0), 1)).collect();
                let weather = Weather { workers, ..FAIR };
                let m = workers as f64;
                let best = optimum(&jobs, workers);
                let listed = simulate(&jobs, &weather).unwrap().makespan;
                let sorted = simulate(&longest_first(jobs.clone()), &weather).unwrap().makespan;
                let total: f64 = jobs.iter().map(Job::seconds).sum();
                let longest = jobs.iter().map(Job::seconds).fold(0.0, f64::max);
                let rounding = 1.0 + 1e-12;
                assert!(
                    bound(&jobs, workers) <= best * rounding
                        && best <= listed.min(sorted) * rounding
                );
                assert!(listed <= (total / m + (1.0 - 1.0 / m) * longest) * rounding);
                assert!(listed <= (2.0 - 1.0 / m) * best * rounding);
                assert!(sorted <= (4.0 / 3.0 - 1.0 / (3.0 * m)) * best * rounding);
            }
        }
    }

    /// The shortest makespan over every way to give each run a worker.
    fn optimum(jobs: &[Job], workers: usize) -> f64 {
        (0..workers.pow(jobs.len() as u32))
            .map(|mut way| {
                let mut loads = vec![0.0; workers];
                for job in jobs {
                    loads[way % workers] += job.seconds();
                    way /= workers;
                }
                loads.into_iter().fold(0.0, f64::max)
            })
            .fold(f64::INFINITY, f64::min)
    }

    #[test]
    fn limits_cost_a_delay_each() {
        let weather = Weather { limit: Some(4.0), delay: 0.5, warned: true, ..FAIR };
        let found = simulate(&[Job::of(10.0, 5)], &weather).unwrap();
        assert_eq!((found.makespan, found.busy, found.lost, found.stops), (11.0, 10.0, 0.0, 2));
        // Without a warning 4 seconds end inside the second piece of 3: three times 3, and the
        // last.
        let found = simulate(&[Job::of(12.0, 4)], &Weather { warned: false, ..weather }).unwrap();
        assert_eq!((found.makespan, found.busy, found.lost, found.stops), (16.5, 15.0, 3.0, 3));
        // Nor is there an end to a piece of eight times the mean between stops.
        assert!(many(&[Job::of(8.0, 1)], &Weather { between: Some(1.0), ..FAIR }, 10).is_none());
        // A piece longer than the limit is never on disk.
        assert_eq!(simulate(&[Job::of(10.0, 2)], &Weather { warned: false, ..weather }), None);
    }

    #[test]
    fn work_is_done_once_or_lost_and_a_seed_is_a_result() {
        let jobs: Vec<Job> = (1..=9).map(|n| Job::of(f64::from(n), 5)).collect();
        let weather = Weather { workers: 3, between: Some(2.0), delay: 0.2, ..FAIR };
        for seed in 0..50 {
            let weather = Weather { seed, ..weather };
            let found = simulate(&jobs, &weather).unwrap();
            assert!((found.busy - found.lost - 45.0).abs() < 1e-9);
            assert!(found.makespan >= bound(&jobs, 3) && found.busy <= 3.0 * found.makespan);
            assert_eq!(simulate(&jobs, &weather).unwrap(), found);
        }
    }
}
