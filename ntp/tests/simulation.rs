//! The whole machine in a simulated world: days of samples, an oscillator that wanders, servers that lie.

#[path = "common/world.rs"]
mod world;

use gokrazy_ntp::names::Spec;
use gokrazy_ntp::packet::Refusal;
use gokrazy_ntp::report::Earlier;
use rsntp::{KissCode, LeapIndicator};
use world::{Peer, World, address, percentile_95};

/// Runs from `from` to `to` seconds and gives the 95th percentile of the error.
fn error_between(world: &mut World, from: f64, to: f64) -> f64 {
    let mut errors = Vec::new();
    world.run(from, |_| {});
    world.run(to, |world| errors.push(world.error));
    percentile_95(&mut errors)
}

fn percentile_50(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[test]
fn the_budget_50_ppm_and_a_link_of_5_ms_give_or_take_1() {
    let mut worst: f64 = 0.0;
    for seed in 1..=40 {
        let ppm = if seed % 2 == 0 { 50e-6 } else { -50e-6 };
        let mut world = World::new(seed, vec![Peer::default()], 1_000.0, ppm);
        let error = error_between(&mut world, 900.0, 3_600.0);
        assert_eq!(world.steps.len(), 1, "{:?}", world.log);
        worst = worst.max(error);
    }
    assert!(worst < 0.001, "{worst}");
}

#[test]
fn answers_that_are_held_up_do_not_pull_the_clock_along() {
    let mut all = Vec::new();
    for seed in 1..=10 {
        let held = Peer {
            queue: 0.1,
            ..Peer::default()
        };
        let mut world = World::new(seed, vec![held], 5.0, 50e-6);
        all.push(error_between(&mut world, 3_600.0, 10_000.0));
    }
    // Up to 100 ms on one way are up to 50 ms of every offset, and 25 ms of their mean.
    let middle = percentile_50(&mut all);
    assert!(middle < 0.005, "{middle}");
}

#[test]
fn three_days_of_wander_need_one_step_and_few_requests() {
    let peers = vec![
        Peer::default(),
        Peer {
            delay: 0.02,
            jitter: 0.005,
            ..Peer::default()
        },
        Peer::default(),
    ];
    let mut world = World::new(7, peers, -3_600.0, 20e-6);
    world.wander = 1e-9;
    let error = error_between(&mut world, 3_600.0, 3.0 * 86_400.0);
    assert!(error < 0.001, "{error}");
    assert_eq!(world.steps.len(), 1);
    assert!(
        world.sent.len() < 3 * 3 * 86_400 / 200,
        "{} requests",
        world.sent.len()
    );
    assert!(world.published.synchronised);
}

#[test]
fn the_published_bound_holds() {
    for seed in 1..=10 {
        let mut world = World::new(seed, peers(&[0.0; 2]), 12.0, 45e-6);
        world.wander = 3e-9;
        world.run(0.5, |_| {});
        let mut last = (0.0, None);
        world.run(40_000.0, |world| {
            if world.published.updated != last.1 {
                last = (world.now, world.published.updated);
                // What is told of the offset is its measure just before it was corrected.
                let told = world.published.offset_ns.unwrap_or(i64::MAX) as f64 / 1e9;
                assert!(
                    world.now < 300.0 || told.abs() < 0.003,
                    "seed {seed}, {}: {told}",
                    world.now
                );
            }
            let bound = world.published.error_bound_ns.unwrap_or(0) as f64 / 1e9;
            let growth = 65e-6 * (world.now - last.0 + 1.0);
            assert!(
                world.error.abs() < bound + growth,
                "{} of {bound} + {growth}",
                world.error
            );
        });
    }
}

#[test]
fn the_published_bound_holds_where_every_answer_is_held_up() {
    for seed in 1..=10 {
        let held = Peer {
            queue: 0.08,
            ..Peer::default()
        };
        let mut world = World::new(seed, vec![held; 3], 12.0, 45e-6);
        world.run(300.0, |_| {});
        let mut last = (world.now, None);
        world.run(10_000.0, |world| {
            if world.published.updated != last.1 {
                last = (world.now, world.published.updated);
            }
            let bound = world.published.error_bound_ns.unwrap_or(0) as f64 / 1e9;
            let growth = 65e-6 * (world.now - last.0 + 1.0);
            assert!(
                world.error.abs() < bound + growth,
                "seed {seed}: {} of {bound} + {growth}",
                world.error
            );
        });
    }
}

#[test]
fn a_temperature_step_is_followed() {
    let mut world = World::new(3, vec![Peer::default(); 3], 0.0, 10e-6);
    world.run(20_000.0, |_| {});
    world.oscillator += 5e-6;
    let mut largest: f64 = 0.0;
    world.run(24_000.0, |world| largest = largest.max(world.error.abs()));
    let error = error_between(&mut world, 26_000.0, 40_000.0);
    // No polling client knows of it before its next sample: 5 ppm times the longest interval, and as much again.
    assert!(largest < 0.0105, "{largest}");
    assert!(error < 0.001, "{error}");
    assert!(world.steps.is_empty());
}

fn peers(lies: &[f64]) -> Vec<Peer> {
    lies.iter()
        .map(|lie| Peer {
            lie: *lie,
            ..Peer::default()
        })
        .collect()
}

fn synchronised_for(hours: f64, lies: &[f64]) -> World {
    let mut world = World::new(11, peers(lies), 100.0, 30e-6);
    world.run(hours * 3_600.0, |_| {});
    assert!(world.published.synchronised, "{:?}", world.log);
    assert_eq!(world.steps.len(), 1);
    world
}

#[test]
fn the_first_majority_sets_the_clock_within_a_round_trip() {
    let mut world = World::new(1, peers(&[0.0; 4]), 1e9, 0.0);
    world.run(0.9, |_| {});
    assert_eq!(world.steps.len(), 1);
    assert!(
        world.steps[0].0 < 0.02 && world.error.abs() < 0.002,
        "{:?}",
        world.steps
    );
    assert!(world.published.synchronised);
    assert_eq!(world.published.since, Some(world::START));
}

#[test]
fn a_small_offset_is_slewed() {
    for error in [0.1, -0.1] {
        let mut world = World::new(1, peers(&[0.0; 3]), error, 0.0);
        world.run(200.0, |_| {});
        assert!(world.steps.is_empty());
        assert!(world.error.abs() < 0.003, "{}", world.error);
        assert!(world.steered[0].correction.slew as f64 * error > 0.0);
    }
}

#[test]
fn a_lying_minority_is_marked_and_harmless() {
    let mut world = World::new(5, peers(&[0.0, 3_600.0, 0.0]), 50.0, 0.0);
    let error = error_between(&mut world, 300.0, 7_200.0);
    assert!(error < 0.001, "{error}");
    assert_eq!(world.steps.len(), 1);
    assert_eq!(world.count("falseticker"), 1, "{:?}", world.log);
}

#[test]
fn servers_that_are_milliseconds_apart_for_good_are_all_of_use() {
    let mut all = peers(&[0.0; 3]);
    all[0].uphill = 0.010;
    all[1].uphill = 0.008;
    all[2] = Peer {
        delay: 0.02,
        ..Peer::default()
    };
    let mut world = World::new(5, all, 50.0, 30e-6);
    let mut errors = Vec::new();
    world.run(3_600.0, |_| {});
    world.run(40_000.0, |world| errors.push(world.error));
    let mean = errors.iter().sum::<f64>() / errors.len() as f64;
    // Who is right of the three cannot be known; that the clock does not wander between them can.
    assert!(mean.abs() < 0.005, "{mean}");
    let mut spread: Vec<f64> = errors.iter().map(|error| error - mean).collect();
    let spread = percentile_95(&mut spread);
    assert!(spread < 0.001, "{spread}");
    assert!((world.kernel - 30e-6).abs() < 0.5e-6, "{}", world.kernel);
}

#[test]
fn a_lone_liar_that_answers_first_does_not_decide() {
    let mut all = peers(&[500.0, 0.0, 0.0]);
    all[0].delay = 0.0005;
    all[0].jitter = 0.0;
    let mut world = World::new(5, all, 50.0, 0.0);
    world.run(30.0, |_| {});
    assert_eq!(world.steps.len(), 1);
    assert!(world.error.abs() < 0.01, "{}", world.error);
    assert_eq!(world.count("no majority"), 0, "{:?}", world.log);
}

#[test]
fn without_a_majority_nothing_moves() {
    let mut world = World::new(5, peers(&[0.0, 5.0]), 50.0, 0.0);
    world.run(7_200.0, |_| {});
    assert!(world.steps.is_empty() && world.steered.is_empty());
    assert!(!world.published.synchronised);
    assert_eq!(world.count("no majority"), 1);
}

#[test]
fn one_that_answers_among_silent_ones_is_followed_after_two_requests() {
    let mut all = peers(&[0.0; 3]);
    all[1].silent = true;
    all[2].silent = true;
    let mut world = World::new(5, all, 50.0, 0.0);
    world.run(3.0, |_| {});
    assert!(world.steps.is_empty());
    world.run(5.0, |_| {});
    assert_eq!(world.steps.len(), 1);
}

#[test]
fn a_server_that_may_be_a_second_off_causes_no_coming_and_going() {
    let mut all = peers(&[0.0]);
    all[0].root = 1_400_000_000;
    let mut world = World::new(5, all, 50.0, 0.0);
    world.run(7_200.0, |_| {});
    assert!(world.published.synchronised);
    assert_eq!(world.count("synchronised"), 1, "{:?}", world.log);
}

#[test]
fn servers_without_the_time_are_not_waited_for() {
    let mut all = peers(&[0.0; 4]);
    all[0].refusal = Some(Refusal::Unsynchronised);
    all[1].refusal = Some(Refusal::Stratum(16));
    all[2].refusal = Some(Refusal::Kiss(KissCode::AccessDenied));
    let mut world = World::new(5, all, 50.0, 0.0);
    world.run(1.0, |_| {});
    assert!(world.steps.is_empty());
    world.run(3.0, |_| {});
    assert_eq!(world.steps.len(), 1);
    assert!(world.error.abs() < 0.01 && world.published.synchronised);
    world.run(10.0, |_| {});
    assert_eq!(world.count("no use: stratum 16"), 1, "{:?}", world.log);
}

#[test]
fn a_lone_liar_that_answers_first_after_a_jump_does_not_decide() {
    let mut world = synchronised_for(1.0, &[0.0; 3]);
    world.peers[0].lie = 500.0;
    world.peers[0].delay = 0.0005;
    world.peers[0].jitter = 0.0;
    world.error += 300.0;
    let moment = world.moment();
    let actions = world.machine.on_jump(-300_000_000_000, moment);
    world.perform(actions);
    let end = world.now + 30.0;
    world.run(end, |_| {});
    assert_eq!(world.steps.len(), 2, "{:?}", world.steps);
    assert!(world.error.abs() < 0.01 && world.published.synchronised);
}

/// Three servers, silent for some hours; then the first lies and is heard at once, the others `later` seconds after it.
fn after_silence(hours: f64, later: f64) -> World {
    let mut world = synchronised_for(1.0, &[0.0; 3]);
    for peer in &mut world.peers {
        peer.silent = true;
    }
    world.run((1.0 + hours) * 3_600.0, |_| {});
    world.peers[0] = Peer {
        lie: 500.0,
        delay: 0.0005,
        jitter: 0.0,
        ..Peer::default()
    };
    let asked = world.sent.len();
    let heard = |world: &World| world.sent.iter().skip(asked).any(|(_, to)| *to == 0);
    while later > 0.0 && !heard(&world) && world.now < 30_000.0 {
        let end = world.now + 0.5;
        world.run(end, |_| {});
    }
    let end = world.now + later;
    world.run(end, |_| {});
    for peer in &mut world.peers {
        peer.silent = false;
    }
    let end = world.now + 3.0 * 3_600.0;
    world.run(end, |_| {});
    world
}

#[test]
fn a_lone_liar_that_is_heard_first_after_a_long_silence_does_not_decide() {
    for (hours, later) in [(2.0, 0.0), (2.0, 2.0), (4.0, 0.0), (4.0, 2.0)] {
        let world = after_silence(hours, later);
        assert_eq!(
            world.steps.len(),
            1,
            "{hours} h, {later} s: {:?}",
            world.log
        );
        assert!(world.error.abs() < 0.01, "{hours} h: {}", world.error);
        assert!(world.published.synchronised, "{hours} h");
    }
}

#[test]
fn a_lone_server_that_lies_once_after_a_long_silence_moves_nothing() {
    let mut world = synchronised_for(1.0, &[0.0]);
    world.peers[0].silent = true;
    world.run(5.0 * 3_600.0, |_| {});
    world.peers[0].silent = false;
    world.peers[0].lie = 500.0;
    let asked = world.sent.len();
    while world.sent.len() == asked && world.now < 30_000.0 {
        let end = world.now + 0.5;
        world.run(end, |_| {});
    }
    world.peers[0].lie = 0.0;
    let end = world.now + 600.0;
    world.run(end, |_| {});
    assert_eq!(world.steps.len(), 1, "{:?}", world.log);
    assert!(world.error.abs() < 0.01, "{}", world.error);
}

#[test]
fn a_known_falseticker_that_is_left_alone_moves_nothing() {
    let mut world = synchronised_for(1.0, &[0.0, 500.0, 0.0]);
    assert_eq!(world.count("falseticker"), 1, "{:?}", world.log);
    world.peers[0].silent = true;
    world.peers[2].silent = true;
    let end = world.now + 6.0 * 3_600.0;
    world.run(end, |_| {});
    assert_eq!(world.steps.len(), 1, "{:?}", world.log);
    assert!(world.error.abs() < 0.1, "{}", world.error);
}

#[test]
fn a_falseticker_that_has_come_to_its_senses_is_followed_when_it_is_left_alone() {
    let mut world = synchronised_for(1.0, &[0.0, 500.0, 0.0]);
    world.peers[0].silent = true;
    world.peers[2].silent = true;
    world.run(6.0 * 3_600.0, |_| {});
    world.peers[1].lie = 0.0;
    let end = world.now + 30.0 * 3_600.0;
    world.run(end, |_| {});
    assert!(world.published.synchronised, "{:?}", world.log);
    assert_eq!(world.count("agrees with the others again"), 1);
    assert!(world.error.abs() < 0.01, "{}", world.error);
}

#[test]
fn a_server_that_falls_silent_is_told_of_once_and_so_is_its_return() {
    let mut world = synchronised_for(1.0, &[0.0; 3]);
    world.peers[1].silent = true;
    world.run(8.0 * 3_600.0, |_| {});
    assert_eq!(world.count("does not answer"), 1, "{:?}", world.log);
    world.peers[1].silent = false;
    world.run(9.0 * 3_600.0, |_| {});
    assert_eq!(world.count("answers"), 1, "{:?}", world.log);
}

#[test]
fn a_step_by_a_coarse_majority_is_the_first_of_its_boot_too() {
    let coarse = Peer {
        root: 1_450_000_000,
        delay: 0.2,
        ..Peer::default()
    };
    let mut world = World::new(5, vec![coarse; 3], 5_000.0, 0.0);
    world.run(60.0, |_| {});
    assert!(world.steps.len() == 1 && !world.published.synchronised);
    assert!(world.published.first_since.is_some());
}

#[test]
fn more_servers_than_are_asked_are_no_news_each_time_they_are_read() {
    let mut world = World::new(1, peers(&[0.0; 18]), 50.0, 0.0);
    world.run(1.0, |_| {});
    assert_eq!(world.sent.len(), 16);
    let now = world.moment().now;
    let specs = (0..18).map(|index| Spec::Address(address(index)));
    let actions = world.machine.on_sources(specs.collect(), now);
    assert!(actions.is_empty(), "{actions:?}");
}

#[test]
fn a_server_that_cannot_be_reached_leaves_the_rounds_of_the_others_as_they_are() {
    let mut all = peers(&[0.0; 2]);
    all[1].unsendable = true;
    let mut world = World::new(5, all, 50.0, 0.0);
    world.run(7_200.0, |_| {});
    let asked = world.sent.iter().filter(|(_, to)| *to == 0).count();
    assert!(asked >= 20, "{asked} requests");
    assert_eq!(world.count("cannot ask"), 1, "{:?}", world.log);
}

#[test]
fn servers_that_part_ways_end_the_synchronisation() {
    let mut world = synchronised_for(1.0, &[0.0, 0.0]);
    world.peers[1].lie = 60.0;
    world.run(5_400.0, |_| {});
    assert!(!world.published.synchronised, "{:?}", world.log);
    assert_eq!(world.steps.len(), 1);
    assert!(world.error.abs() < 0.05);
}

#[test]
fn a_spike_moves_nothing() {
    let mut world = synchronised_for(2.0, &[0.0]);
    let steered = world.steered.len();
    world.peers[0].lie = 0.08;
    let end = world.now + 70.0;
    world.run(end, |_| {});
    world.peers[0].lie = 30.0;
    world.run(end + 70.0, |_| {});
    world.peers[0].lie = 0.0;
    assert!(
        world.steered.len() - steered <= 1,
        "{:?}",
        world.steered.last()
    );
    let error = error_between(&mut world, end + 71.0, end + 3_000.0);
    assert!(error < 0.001, "{error}");
    assert_eq!(world.steps.len(), 1);
}

#[test]
fn a_lasting_shift_is_followed_by_a_step_after_three_samples() {
    let mut world = synchronised_for(1.0, &[0.0; 3]);
    for peer in &mut world.peers {
        peer.lie = 10.0;
    }
    world.run(5_400.0, |_| {});
    assert_eq!(world.steps.len(), 2, "{:?} {:?}", world.steps, world.log);
    assert!((world.error + 10.0).abs() < 0.01);
}

#[test]
fn a_later_step_beyond_1000_s_needs_a_quarter_of_an_hour() {
    let mut world = synchronised_for(1.0, &[0.0]);
    let sent = world.sent.len();
    world.peers[0].lie = 1_500.0;
    let start = world.now;
    world.run(start + 900.0, |_| {});
    assert_eq!(world.steps.len(), 1);
    assert!(!world.published.synchronised);
    assert_eq!(world.count("too far"), 1, "{:?}", world.log);
    assert!(world.error.abs() < 0.05, "{}", world.error);
    world.run(start + 2_000.0, |_| {});
    assert_eq!(world.steps.len(), 2, "{:?}", world.log);
    assert!(world.published.synchronised);
    assert!(world.sent.len() > sent + 10);
}

#[test]
fn backward_by_more_than_a_day_needs_a_quarter_of_an_hour_even_at_the_start() {
    let mut world = World::new(2, peers(&[0.0; 3]), -90_000.0, 0.0);
    world.run(900.0, |_| {});
    assert!(world.steps.is_empty() && !world.published.synchronised);
    let told = world.published.offset_ns.unwrap_or_default() as f64 / 1e9;
    assert!((told + 90_000.0).abs() < 1.0, "{told}");
    world.run(1_100.0, |_| {});
    assert_eq!(world.steps.len(), 1);
    let mut world = World::new(2, peers(&[0.0; 3]), -80_000.0, 0.0);
    world.run(1.0, |_| {});
    assert_eq!(world.steps.len(), 1);
}

#[test]
fn a_time_before_the_build_is_never_taken() {
    let mut world = World::new(2, peers(&[-300.0 * 86_400.0; 3]), 0.0, 0.0);
    world.run(20_000.0, |_| {});
    assert!(world.steps.is_empty());
    assert_eq!(world.count("outside this build's lifetime"), 1);
}

#[test]
fn a_restart_in_the_same_boot_keeps_the_limit() {
    let mut world = synchronised_for(1.0, &[0.0]);
    let earlier = Earlier::of(Some(&world.published), world.published.boot_id.clone());
    world.peers[0].lie = 1_500.0;
    world.restart_as(earlier);
    let start = world.now;
    world.run(start + 800.0, |_| {});
    assert_eq!(world.steps.len(), 1);
    let mut world = synchronised_for(1.0, &[0.0]);
    let other_boot = Earlier::of(Some(&world.published), Some("other".to_owned()));
    world.peers[0].lie = 1_500.0;
    world.restart_as(other_boot);
    let start = world.now;
    world.run(start + 10.0, |_| {});
    assert_eq!(world.steps.len(), 2);
}

#[test]
fn servers_of_one_second_precision_cause_one_step_at_most() {
    let coarse = Peer {
        precision: 1.0,
        ..Peer::default()
    };
    let mut world = World::new(2, vec![coarse; 2], 7.3, 0.0);
    let error = error_between(&mut world, 60.0, 40_000.0);
    assert_eq!(world.steps.len(), 1, "{:?}", world.steps);
    assert!(error < 1.0, "{error}");
}

#[test]
fn a_server_that_hides_its_coarse_clock_causes_no_step_at_each_poll() {
    let mut worst = 0;
    for seed in 1..=20 {
        let coarse = Peer {
            precision: 0.0,
            coarse: 1.0,
            ..Peer::default()
        };
        let mut world = World::new(seed, vec![coarse; 1], 7.3, 0.0);
        let error = error_between(&mut world, 20_000.0, 100_000.0);
        assert!(error < 1.0, "{error}");
        worst = worst.max(world.steps.len());
    }
    // Of more than a hundred polls; by chance three of five samples agree on what is wrong by more than half a second.
    assert!(worst <= 8, "{worst} steps");
}

#[test]
fn a_lone_server_that_lies_once_in_its_burst_moves_nothing() {
    for liar in 0..4 {
        for error in [0.0, 4.0, -3_000.0] {
            let mut world = World::new(3, peers(&[0.0]), error, 0.0);
            for request in 0..4 {
                world.peers[0].lie = if request == liar { 9_999.0 } else { 0.0 };
                world.run(f64::from(request) * 2.0 + 1.0, |_| {});
            }
            world.run(60.0, |_| {});
            let steps = usize::from(error != 0.0);
            assert_eq!(world.steps.len(), steps, "{liar} {:?}", world.steps);
            assert!(world.error.abs() < 0.01, "{}", world.error);
            assert!(world.published.synchronised);
        }
    }
}

#[test]
fn a_lone_server_whose_clock_stands_still_sets_nothing() {
    let mut world = World::new(3, peers(&[2e8]), 0.0, 0.0);
    world.run(1.0, |_| {});
    for second in 2..300 {
        world.peers[0].lie = 2e8 - f64::from(second);
        world.run(f64::from(second), |_| {});
    }
    assert!(world.steps.is_empty() && world.steered.is_empty());
    assert!(!world.published.synchronised);
}

#[test]
fn a_lone_server_that_says_no_more_than_one_word_is_believed_after_its_burst() {
    let mut world = World::new(3, peers(&[0.0]), 4.0, 0.0);
    world.run(1.0, |_| {});
    world.peers[0].silent = true;
    world.run(7.0, |_| {});
    assert!(world.steps.is_empty());
    world.run(9.0, |_| {});
    assert_eq!(world.steps.len(), 1, "{:?}", world.steps);
}

#[test]
fn a_reply_that_was_held_up_for_a_second_moves_nothing_much() {
    let mut world = World::new(
        3,
        vec![Peer {
            delay: 0.6,
            ..Peer::default()
        }],
        0.0,
        0.0,
    );
    world.run(0.5, |_| {});
    world.peers[0].delay = 0.005;
    let mut largest: f64 = 0.0;
    world.run(200.0, |world| largest = largest.max(world.error.abs()));
    assert!(largest < 0.005, "{largest}");
}

#[test]
fn rate_and_deny_are_obeyed() {
    let mut all = peers(&[0.0; 2]);
    all[0].refusal = Some(Refusal::Kiss(KissCode::RateExceeded));
    all[1].refusal = Some(Refusal::Kiss(KissCode::AccessDenied));
    let mut world = World::new(2, all, 0.0, 0.0);
    world.run(4_000.0, |_| {});
    let asked = |index| -> Vec<f64> {
        world
            .sent
            .iter()
            .filter(|(_, to)| *to == index)
            .map(|(at, _)| *at)
            .collect()
    };
    assert_eq!(asked(1).len(), 1);
    let gaps: Vec<f64> = asked(0).windows(2).map(|pair| pair[1] - pair[0]).collect();
    let wanted = [128.0, 256.0, 512.0, 1_024.0, 1_024.0];
    assert!(
        gaps.iter()
            .zip(wanted)
            .all(|(gap, least)| *gap >= least && *gap < least + 70.0),
        "{gaps:?}"
    );
    assert!(gaps.len() >= 4);
    assert_eq!(world.count("denies"), 1);
    assert_eq!(world.count("asks for fewer requests"), 1);
}

#[test]
fn one_that_asks_for_fewer_requests_is_complained_of_once_it_leaves_the_next_unanswered() {
    let mut all = peers(&[0.0; 3]);
    for peer in &mut all {
        peer.refusal = Some(Refusal::Kiss(KissCode::RateExceeded));
    }
    let mut world = World::new(2, all, 0.0, 0.0);
    world.run(100.0, |_| {});
    assert_eq!(world.count("asks for fewer requests"), 3);
    world.peers[0].refusal = None;
    world.peers[1].refusal = None;
    world.peers[2].silent = true;
    let asked = |world: &mut World, times: usize| {
        while world.sent.iter().filter(|(_, to)| *to == 2).count() < times {
            world.run(world.now + 1.0, |_| {});
        }
    };
    asked(&mut world, 2);
    world.run(world.now + 100.0, |_| {});
    assert!(world.published.synchronised);
    let complaints = |world: &World| world.count("is of no use") + world.count("does not answer");
    assert_eq!(complaints(&world), 0, "{:?}", world.log);
    asked(&mut world, 3);
    assert_eq!(complaints(&world), 1, "{:?}", world.log);
}

#[test]
fn without_the_right_to_set_the_clock_nothing_is_claimed() {
    let mut world = World::new(2, peers(&[0.0; 3]), 5.0, 0.0);
    world.powerless = true;
    world.run(1_000.0, |_| {});
    assert!(!world.published.synchronised);
    assert!((world.published.offset_ns.unwrap() - 5_000_000_000).abs() < 5_000_000);
    assert_eq!(world.count("cannot correct"), 1, "{:?}", world.log);
    world.powerless = false;
    world.run(1_200.0, |_| {});
    assert!(world.published.synchronised);
}

#[test]
fn a_clock_moved_by_someone_else_is_brought_back() {
    let mut world = synchronised_for(1.0, &[0.0; 3]);
    // Also what resuming from a suspend looks like.
    world.error += 300.0;
    let moment = world.moment();
    let actions = world.machine.on_jump(-300_000_000_000, moment);
    world.perform(actions);
    assert!(!world.published.synchronised);
    let end = world.now + 30.0;
    world.run(end, |_| {});
    assert_eq!(world.steps.len(), 2);
    assert!(world.error.abs() < 0.01 && world.published.synchronised);
}

#[test]
fn a_leap_second_is_passed_on_if_most_announce_it() {
    let mut world = synchronised_for(1.0, &[0.0; 3]);
    world.peers[0].leap = LeapIndicator::LastMinuteHas61Seconds;
    world.run(5_000.0, |_| {});
    assert_eq!(world.steered.last().unwrap().leap, LeapIndicator::NoWarning);
    world.peers[1].leap = LeapIndicator::LastMinuteHas61Seconds;
    world.run(8_000.0, |_| {});
    assert_eq!(
        world.steered.last().unwrap().leap,
        LeapIndicator::LastMinuteHas61Seconds
    );
    assert_eq!(world.published.leap.as_deref(), Some("insert"));
}

#[test]
fn a_leap_second_that_the_kernel_does_is_nobody_else_s_hand() {
    let mut world = synchronised_for(1.0, &[0.0; 3]);
    for peer in &mut world.peers {
        peer.leap = LeapIndicator::LastMinuteHas61Seconds;
    }
    let jump = |world: &mut World| {
        let moment = world.moment();
        let actions = world.machine.on_jump(-1_000_000_000, moment);
        world.perform(actions);
    };
    let midnight = (86_400 - world::START % 86_400) as f64;
    // The kernel tells of it as soon as it is done: it is 23:59:59 once more.
    world.run(midnight - 0.9, |_| {});
    jump(&mut world);
    assert!(world.published.synchronised, "{:?}", world.log);
    assert_eq!(world.count("leap second"), 1);
    world.run(midnight + 7_200.0, |_| {});
    assert_eq!(world.steps.len(), 1);
    // At another time of the day a second is a second.
    jump(&mut world);
    assert!(!world.published.synchronised);
    assert_eq!(world.count("not by us"), 1);
}

#[test]
fn synchronisation_is_lost_when_no_server_answers_for_long() {
    let mut world = synchronised_for(3.0, &[0.0; 3]);
    for peer in &mut world.peers {
        peer.silent = true;
    }
    let start = world.now;
    world.run(start + 20_000.0, |_| {});
    assert!(world.published.synchronised);
    world.run(start + 80_000.0, |_| {});
    assert!(!world.published.synchronised, "{:?}", world.log);
    assert_eq!(world.count("no longer synchronised"), 1);
    for peer in &mut world.peers {
        peer.silent = false;
    }
    world.run(start + 84_000.0, |_| {});
    assert!(world.published.synchronised);
}

#[test]
fn synchronisation_is_lost_when_every_server_denied_service_for_long() {
    let mut world = synchronised_for(3.0, &[0.0; 3]);
    for peer in &mut world.peers {
        peer.refusal = Some(Refusal::Kiss(KissCode::AccessDenied));
    }
    let start = world.now;
    world.run(start + 80_000.0, |_| {});
    assert!(!world.published.synchronised, "{:?}", world.log);
    assert_eq!(world.count("no longer synchronised"), 1);
}

#[test]
fn what_the_kernel_does_not_take_is_not_taken_for_learned() {
    let mut world = synchronised_for(2.0, &[0.0; 2]);
    let learned = world.kernel;
    world.powerless = true;
    // Temperature changes, and nothing can be done about it.
    world.oscillator += 3e-6;
    let end = world.now + 12.0 * 3_600.0;
    world.run(end, |_| {});
    assert!(!world.published.synchronised);
    let thought = world.machine.discipline().frequency();
    assert!((thought - learned).abs() < 1e-9, "{thought} {learned}");
    world.powerless = false;
    let error = error_between(&mut world, end + 3_600.0, end + 7_200.0);
    assert!(error < 0.001, "{error}");
}

#[test]
fn a_step_that_the_kernel_refuses_leaves_the_frequency_as_it_is() {
    let mut world = synchronised_for(2.0, &[0.0; 2]);
    let learned = world.kernel;
    world.powerless = true;
    for peer in &mut world.peers {
        peer.lie = 10.0;
    }
    let end = world.now + 7_200.0;
    world.run(end, |_| {});
    assert_eq!(world.count("cannot correct"), 1, "{:?}", world.log);
    let thought = world.machine.discipline().frequency();
    assert!((thought - learned).abs() < 1e-12, "{thought} {learned}");
}

#[test]
fn discord_ends_what_a_majority_has_insisted_on() {
    let mut world = synchronised_for(1.0, &[0.0; 2]);
    let lie = |world: &mut World, lies: [f64; 2], seconds: f64| {
        world.peers[0].lie = lies[0];
        world.peers[1].lie = lies[1];
        let end = world.now + seconds;
        world.run(end, |_| {});
    };
    lie(&mut world, [1_500.0; 2], 800.0);
    assert_eq!(world.count("too far"), 1, "{:?}", world.log);
    lie(&mut world, [1_500.0, 3_000.0], 500.0);
    lie(&mut world, [1_500.0; 2], 700.0);
    assert_eq!(world.steps.len(), 1, "{:?}", world.log);
    lie(&mut world, [1_500.0; 2], 1_200.0);
    assert_eq!(world.steps.len(), 2, "{:?}", world.log);
}

#[test]
fn requests_are_a_burst_and_then_polls_of_64_to_1024_s() {
    let calm = Peer {
        jitter: 0.0002,
        ..Peer::default()
    };
    let mut world = World::new(4, vec![calm], 0.0, 5e-6);
    world.run(100_000.0, |_| {});
    let at: Vec<f64> = world.sent.iter().map(|(at, _)| *at).collect();
    let gaps: Vec<f64> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(
        gaps[..3].iter().all(|gap| (gap - 2.0).abs() < 0.01),
        "{gaps:?}"
    );
    assert!(
        gaps[3..].iter().all(|gap| (63.99..=1_024.1).contains(gap)),
        "{gaps:?}"
    );
    assert!(gaps.iter().any(|gap| *gap > 500.0));
    let first: Vec<i64> = gaps[3..9].iter().map(|gap| (gap * 1e3) as i64).collect();
    assert!(first.windows(2).any(|pair| pair[0] != pair[1]), "no jitter");
}
