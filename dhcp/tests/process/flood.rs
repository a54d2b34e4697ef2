//! Floods of replies that pass the socket filter, since their sender has seen our transaction id.

use std::time::Duration;

use crate::common::{
    Client, DISCOVER, Net, OFFER, REQUEST, carry, clock, eventually, lease, message,
};

/// How often the client has gone to sleep, which it does once for each time that it was woken.
fn sleeps(client: &Client) -> u64 {
    let path = format!("/proc/{}/status", client.pid());
    let text = std::fs::read_to_string(path).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

#[test]
fn useless_replies_are_looked_at_in_batches_and_the_real_one_among_them_counts() {
    let net = Net::new();
    let server = net.server();
    let client = net.client(&["--conflict-check", "off"]);
    let discover = server.expect(DISCOVER, 10);
    // An offer for no time at all is none.
    let forged = carry(&message(&discover, OFFER, &[&lease(0)]));
    let flood = |packets: u32| {
        for _ in 0..packets {
            server.send(&forged);
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    let (before, began) = (sleeps(&client), clock());
    flood(2000);
    let slept = sleeps(&client) - before;
    // What is put up with at first and each second, ten looks a second, and what else may wake it.
    let bound = 32 + (32 + 10) * (began.elapsed().as_secs() + 1) + 20;
    assert!(slept < bound, "{slept} sleeps, not {bound}");
    server.send(&carry(&message(&discover, OFFER, &[&lease(600)])));
    flood(300);
    eventually(10, "a request for what was offered", || {
        let seen = server.next(1000);
        seen.is_some_and(|seen| seen.kind() == REQUEST)
    });
    assert!(!client.log().contains("refused"), "{}", client.log());
}
