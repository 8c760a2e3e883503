//! The play in three acts, as timed lines: a weighted split, an endpoint that fails and recovers, a reload.

use std::time::Duration;

use super::{stage::Stage, traffic::FAILED};
use crate::cli::outcome::{Failure, Outcome, print};

/// Between two lines of counts.
const TICK: Duration = Duration::from_secs(1);
/// Far away: only Ctrl-C ends it.
const LONG: Duration = Duration::from_secs(86_400);

/// Why the play stops before its end.
enum End {
    /// Ctrl-C.
    Interrupted,
    /// Something that should work does not.
    Failed(String),
}

impl From<String> for End {
    fn from(problem: String) -> Self {
        Self::Failed(problem)
    }
}

/// Plays it; then traffic goes on until Ctrl-C, unless it is to be played `once`.
pub(in crate::cli) fn demo(once: bool) -> Outcome {
    let mut stage = Stage::set().map_err(|problem| Failure::running(format!("demo: {problem}")))?;
    introduce(&stage);
    let end = play(&mut stage, once);
    say(&stage, "the traffic stops and the node drains");
    stage.clear();
    match end {
        Ok(()) | Err(End::Interrupted) => Ok(String::new()),
        Err(End::Failed(problem)) => Err(Failure::running(format!("demo: {problem}"))),
    }
}

fn play(stage: &mut Stage, once: bool) -> Result<(), End> {
    split(stage)?;
    failure(stage)?;
    reload(stage)?;
    if once {
        return Ok(());
    }
    print("\nThat was all. The traffic goes on for you to look at; Ctrl-C ends it.\n");
    while stage.pause(LONG) {}
    Ok(())
}

fn introduce(stage: &Stage) {
    let (proxy, admin) = (stage.proxy, &stage.admin);
    print(&format!(
        "towpath demo: sample services, the daemon and a little traffic in one process\n\
         \x20 proxy      {proxy}\n\
         \x20 admin      http://{admin}/\n\
         \x20 services   reviews-v1 {}, reviews-v2 {}\n\
         \x20            ratings {} (ratings-a) and {} (ratings-b)\n\
         \n\
         Try, in another terminal:\n\
         \x20 curl -H 'host: reviews' http://{proxy}/\n\
         \x20 curl -x http://{proxy} http://ratings/\n\
         \x20 curl -i -H 'host: nobody' http://{proxy}/\n\
         \x20 curl http://{admin}/api/services\n\
         \x20 curl 'http://{admin}/api/explain?url=http://reviews/'\n",
        stage.samples.reviews_v1.address,
        stage.samples.reviews_v2.address,
        stage.samples.ratings_a.address,
        stage.samples.ratings_b.address,
    ));
}

fn split(stage: &mut Stage) -> Result<(), End> {
    print("\n1. A weighted split: 90 % of `reviews` go to reviews-v1, 10 % to reviews-v2.\n");
    watch(stage, ["reviews-v1", "reviews-v2"], 3)
}

fn failure(stage: &mut Stage) -> Result<(), End> {
    print("\n2. An endpoint fails and recovers: `ratings` has two, ratings-a and ratings-b.\n");
    let both = ["ratings-a", "ratings-b"];
    watch(stage, both, 1)?;
    let before = stage.connect_failures()?;
    stage.samples.ratings_b.stop();
    say(stage, "ratings-b has stopped: connects to it are refused");
    // What it answered until then is not to be counted below.
    stage.take_counts();
    watch(stage, both, 3)?;
    let refused = stage.connect_failures()?.saturating_sub(before);
    say(
        stage,
        &format!(
            "{refused} connects were refused, and those requests sent to ratings-a instead; then ratings-b was ejected"
        ),
    );
    stage.samples.ratings_b.restart().map_err(|error| format!("cannot start ratings-b again: {error}"))?;
    say(stage, "ratings-b listens again; it is used again once a probe has succeeded");
    watch(stage, both, 2)
}

fn reload(stage: &mut Stage) -> Result<(), End> {
    print("\n3. A reload: the weights of `reviews` become 50 and 50.\n");
    let both = ["reviews-v1", "reviews-v2"];
    say(stage, "generation 1 is in force, with weights 90 and 10");
    stage.take_counts();
    watch(stage, both, 1)?;
    let generation = stage.reload([50, 50])?;
    stage.take_counts();
    say(stage, &format!("generation {generation} is in force, with weights 50 and 50"));
    watch(stage, both, 3)
}

/// Lines of counts: who answered how many requests in each tick.
fn watch(stage: &mut Stage, who: [&str; 2], ticks: usize) -> Result<(), End> {
    for _ in 0..ticks {
        if !stage.pause(TICK) {
            return Err(End::Interrupted);
        }
        let counts = stage.take_counts();
        let count = |name: &str| counts.get(name).copied().unwrap_or(0);
        let [a, b] = who.map(|name| format!("{name} {:>3}", count(name)));
        say(stage, &format!("{a}   {b}   failed {}", count(FAILED)));
    }
    Ok(())
}

fn say(stage: &Stage, text: &str) {
    print(&format!("{:6.1}s  {text}\n", stage.began.elapsed().as_secs_f64()));
}
