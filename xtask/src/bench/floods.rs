//! Floods at published ports: whether conversations through them go on meanwhile, and how much slower.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use spandrel_tests::{Crowd, Family, Flood, Lab, Site};

use super::table;
use crate::progress::items;

/// Frames of each flood, each from an address and port of its own.
const FRAMES: u64 = 5_000_000;

/// Conversations that go on meanwhile: a question and its answer five times a second, each.
const MEMBERS: usize = 1000;

/// How long they are watched before the flood begins.
const CALM: Duration = Duration::from_secs(5);

/// What happened in one flood.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Figures {
    flood: String,
    family: String,
    frames: u64,
    seconds: f64,
    /// Answers that all conversations together got in a second, before the flood and during it.
    calm: f64,
    flooded: f64,
    /// New connections that were made during the flood, one after the other.
    newcomers: u64,
}

/// Plays all floods. Must be root. A conversation that breaks ends it all.
pub(super) fn measure(spandrel: &Path) -> Result<Vec<Figures>> {
    let site = Site::in_lab(&Lab::with(spandrel.to_path_buf()), "");
    site.host.create_network("--ipv6 red");
    let server = site.host.run_container("--name server --network red -p 8080:80 -p 5353:53/udp -p 8081:81");
    let mac = site.host.link(&site.uplink.name).mac;
    let mut all = Vec::new();
    let progress = items(2 * Family::BOTH.len() as u64);
    for family in Family::BOTH {
        let public = site.public(family);
        let _greeter = server.tcp_listen(family.any(), 81);
        for (name, flood) in [("SYNs", Flood::Syn(public, 8080)), ("datagrams", Flood::Udp(public, 5353))] {
            progress.set_message(format!("{name} over {family:?}"));
            let mut crowd = match flood {
                Flood::Syn(..) => Crowd::tcp(&site.internet, (public, 8080), &server, (family.any(), 80), MEMBERS),
                _ => Crowd::udp(&site.internet, (public, 5353), &server, (family.any(), 53), MEMBERS),
            };
            crowd.assert_all_go_on();
            let rate = |since: (Instant, u64)| (crowd.answers() - since.1) as f64 / since.0.elapsed().as_secs_f64();
            let before = (Instant::now(), crowd.answers());
            thread::sleep(CALM);
            let calm = rate(before);
            let during = (Instant::now(), crowd.answers());
            let flooding = site.internet.flood(&site.uplink.outside_name, mac, flood, FRAMES);
            let mut newcomers = 0;
            while flooding.goes_on() {
                site.internet.tcp_connect(public, 8081)?.echo("during the flood")?;
                newcomers += 1;
                thread::sleep(Duration::from_millis(100));
            }
            let frames = flooding.finish();
            let (seconds, flooded) = (during.0.elapsed().as_secs_f64(), rate(during));
            crowd.assert_all_go_on();
            crowd.finish();
            let (flood, family) = (name.to_owned(), format!("IP{family:?}").to_lowercase());
            all.push(Figures { flood, family, frames, seconds, calm, flooded, newcomers });
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    Ok(all)
}

/// The figures as a table with its explanation.
pub(super) fn report(all: &[Figures]) -> String {
    let row = |figures: &Figures| {
        [
            format!("{} over {}", figures.flood, figures.family),
            format!("{:.0}", figures.seconds),
            format!("{:.0}", figures.frames as f64 / figures.seconds / 1000.0),
            format!("{:.0}", figures.calm),
            format!("{:.0}", figures.flooded),
            figures.newcomers.to_string(),
        ]
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    let header = ["Flood", "seconds", "1000 frames/s", "answers/s before", "during", "new connections"];
    format!(
        "\n{FRAMES} frames from random addresses at a published port, through which {MEMBERS} conversations go on. None of them broke.\n\n{}",
        table::draw(header, 1, &rows)
    )
}
