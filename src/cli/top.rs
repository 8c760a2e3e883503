//! `towpath top`: what the services of a running daemon do, a table that renews itself.
//!
//! Figures are those of the time between two looks at `/metrics`.

use std::{
    cmp::Ordering,
    pin::pin,
    time::{Duration, Instant},
};

use http::Method;
use tokio::{sync::mpsc::UnboundedReceiver, time::sleep};

use super::{
    args::{Order, Top},
    figures::{self, Counts, Figures, Page},
    outcome::{Failure, Outcome, print},
    remote,
    table::table,
    terminal::{Screen, keys},
    way::Way,
};

/// Shows tables until it is told to stop; one with `--once`.
pub(super) fn top(args: &Top) -> Outcome {
    let way = Way::of(&args.remote)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::running(format!("cannot make a runtime: {error}")))?;
    let outcome =
        runtime.block_on(async { if args.once { once(args, &way).await } else { live(args, &way).await } });
    // A look that is still under way is not waited for.
    runtime.shutdown_background();
    outcome
}

/// A page, and when it was read.
type Look = (Instant, Page);

async fn look(way: &Way) -> Result<Look, Failure> {
    let text = remote::ask_by(way, Method::GET, "/metrics").await?;
    Ok((Instant::now(), figures::read(&text)))
}

async fn once(args: &Top, way: &Way) -> Outcome {
    let before = look(way).await?;
    sleep(Duration::from_secs_f64(args.interval)).await;
    Ok(shown(&before, &look(way).await?, args.sort))
}

async fn live(args: &Top, way: &Way) -> Outcome {
    let mut before = look(way).await?;
    let screen = Screen::take();
    let mut keys = keys();
    let head = format!("towpath at {way}, every {} s; q ends", args.interval);
    if let Some(screen) = &screen {
        screen.draw(&head);
    }
    loop {
        let next = async {
            sleep(Duration::from_secs_f64(args.interval)).await;
            look(way).await
        };
        let Some(next) = unless_ended(&mut keys, next).await else { return Ok(String::new()) };
        let text = match next {
            Ok(now) => {
                let text = shown(&before, &now, args.sort);
                before = now;
                text
            }
            // It may come back; the next look says.
            Err(failure) => format!("{}\n", failure.text),
        };
        match &screen {
            Some(screen) => screen.draw(&format!("{head}\n\n{text}")),
            None => print(&format!("{text}\n")),
        }
    }
}

/// What `work` comes to; none once somebody presses q or Ctrl-C.
async fn unless_ended<T>(keys: &mut UnboundedReceiver<u8>, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return Some(done),
            _ = tokio::signal::ctrl_c() => return None,
            Some(key) = keys.recv() => if matches!(key, b'q' | b'Q') {
                return None;
            },
        }
    }
}

fn shown((then, before): &Look, (now, after): &Look, order: Order) -> String {
    let seconds = now.duration_since(*then).as_secs_f64().max(0.001);
    let row = |(name, counts): (&'_ String, &'_ Counts)| {
        (name.clone(), counts.clone(), counts.since(before.get(name), seconds))
    };
    let mut rows: Vec<_> = after.iter().map(row).collect();
    rows.sort_by(|(a_name, _, a), (b_name, _, b)| ordered(order, a, b).then_with(|| a_name.cmp(b_name)));
    let rows: Vec<_> = rows.iter().map(|(name, counts, figures)| cells(name, counts, figures)).collect();
    let head = ["SERVICE", "RATE", "SUCCESS", "P50", "P95", "P99", "IN FLIGHT", "ENDPOINTS", "RETRIES"];
    table(head, &rows)
}

fn ordered(order: Order, a: &Figures, b: &Figures) -> Ordering {
    let descending = |a: f64, b: f64| b.total_cmp(&a);
    match order {
        Order::Rate => descending(a.rate, b.rate),
        Order::Success => a.success.unwrap_or(101.0).total_cmp(&b.success.unwrap_or(101.0)),
        Order::P99 => descending(a.quantile(0.99).unwrap_or(-1.0), b.quantile(0.99).unwrap_or(-1.0)),
        Order::Name => Ordering::Equal,
    }
}

fn cells(name: &str, counts: &Counts, figures: &Figures) -> [String; 9] {
    let latency = |part| figures.quantile(part).map_or_else(|| "-".to_owned(), duration);
    let name = if name.is_empty() { "(none)" } else { name };
    [
        // A service that is made for a host has its name.
        name.chars().filter(|c| !c.is_control()).collect(),
        format!("{:.1}/s", figures.rate),
        figures.success.map_or_else(|| "-".to_owned(), |success| format!("{success:.2}%")),
        latency(0.5),
        latency(0.95),
        latency(0.99),
        format!("{:.0}", counts.in_flight),
        format!("{}/{}", counts.usable, counts.endpoints),
        format!("{:.1}/s", figures.retries),
    ]
}

fn duration(seconds: f64) -> String {
    match seconds * 1000.0 {
        millis if millis < 10.0 => format!("{millis:.2}ms"),
        millis if millis < 1000.0 => format!("{millis:.0}ms"),
        _ => format!("{seconds:.1}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(of: &[(&str, u32, u32)]) -> Page {
        let line = |(name, good, bad): &(&str, u32, u32)| {
            format!(
                "towpath_requests_total{{service=\"{name}\",code=\"200\"}} {good}\n\
                 towpath_requests_total{{service=\"{name}\",code=\"500\"}} {bad}\n"
            )
        };
        figures::read(&of.iter().map(line).collect::<String>())
    }

    #[test]
    fn services_stand_in_the_order_that_was_asked_for() {
        let start = Instant::now();
        let before = (start, page(&[("a", 0, 0), ("b", 0, 0), ("c", 0, 0)]));
        let after = (start + Duration::from_secs(2), page(&[("a", 10, 0), ("b", 10, 10), ("c", 0, 0)]));
        let names = |order| {
            let text = shown(&before, &after, order);
            text.lines().skip(1).map(|line| line[..1].to_owned()).collect::<String>()
        };
        assert_eq!([Order::Rate, Order::Success, Order::Name].map(names), ["bac", "bac", "abc"]);
        let text = shown(&before, &after, Order::Rate);
        let row: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row, ["b", "10.0/s", "50.00%", "-", "-", "-", "0", "0/0", "0.0/s"]);
    }

    #[tokio::test]
    async fn q_ends_a_look_that_gets_no_answer_and_other_keys_do_not() {
        let (pressed, mut keys) = tokio::sync::mpsc::unbounded_channel();
        pressed.send(b'x').unwrap();
        assert_eq!(unless_ended(&mut keys, async { 1 }).await, Some(1));
        pressed.send(b'q').unwrap();
        assert_eq!(unless_ended(&mut keys, std::future::pending::<()>()).await, None);
    }

    #[test]
    fn latencies_are_shown_in_three_figures_or_so() {
        let texts = [0.00123, 0.0123, 0.9, 12.34].map(duration);
        assert_eq!(texts, ["1.23ms", "12ms", "900ms", "12.3s"]);
    }
}
