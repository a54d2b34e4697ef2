//! The interfaces: which come, change and go, and whose client hears of it.

use std::collections::HashSet;
use std::io;
use std::time::Duration;

use anyhow::{Context, Result};
use gokrazy_netlink::{Address, Event as NetlinkEvent, Link};

use super::Daemon;
use crate::client::Client;
use crate::links;
use crate::six::Cue;
use crate::system;

/// Wait before interfaces are listed again that the kernel did not list.
const RELIST_WAIT: Duration = Duration::from_secs(1);

impl Daemon {
    pub(super) fn on_links(&mut self) -> Result<()> {
        for event in self.monitor.read().context("read netlink events")? {
            match &event {
                NetlinkEvent::Link(link) => self.on_link(link),
                NetlinkEvent::LinkGone(index) => {
                    self.remove(*index, Departure::Gone);
                    self.vlans.on_link_gone(&mut self.world);
                }
                NetlinkEvent::AddressGone(gone) => {
                    // One with a lifetime that proves taken goes at once, its flags saying why.
                    self.on_address(gone, &event);
                    self.on_removal(&event);
                }
                NetlinkEvent::RouteGone(_) => self.on_removal(&event),
                NetlinkEvent::Lost => self.list_anew(),
                NetlinkEvent::RouterOption {
                    interface,
                    option,
                    source,
                } => {
                    if let Some(client) = find(&mut self.clients, *interface) {
                        client.on_router_option(option, *source, &mut self.world);
                    }
                }
                NetlinkEvent::Inet6Flags { interface, flags } => {
                    self.on_six(*interface, Cue::Flags(*flags));
                }
                NetlinkEvent::Address(address) => {
                    self.on_address(address, &event);
                }
            }
        }
        Ok(())
    }

    /// Events were lost: looks at all that they may have told, now or once the kernel answers.
    pub(super) fn list_anew(&mut self) {
        let is_told = self.relist_at.take().is_some();
        for client in &mut self.clients {
            client.events_lost(&mut self.world);
        }
        let listed = self.list_links().and_then(|()| self.look_at_routers());
        if let Err(error) = listed {
            let line = format!("list interfaces: {error}; trying again");
            if is_told {
                self.world.log.detail("dhcp", line);
            } else {
                self.world.log.event("dhcp", line);
            }
            self.relist_at = Some(system::now().after(RELIST_WAIT));
        }
    }

    /// Heeds what routers have said meanwhile.
    fn look_at_routers(&mut self) -> io::Result<()> {
        for link in self.world.netlink.links()? {
            if let Some(flags) = link.inet6_flags {
                self.on_six(link.index, Cue::Flags(flags));
            }
        }
        Ok(())
    }

    fn on_removal(&mut self, event: &NetlinkEvent) {
        for client in &mut self.clients {
            client.on_netlink(event);
        }
    }

    fn on_address(&mut self, address: &Address, event: &NetlinkEvent) {
        if let Some(client) = find(&mut self.clients, address.interface) {
            client.on_six(Cue::Address(address.clone()), &mut self.world);
            client.on_address6(event, &mut self.world);
        }
    }

    fn on_six(&mut self, interface: u32, cue: Cue) {
        if let Some(client) = find(&mut self.clients, interface) {
            client.on_six(cue, &mut self.world);
        }
    }

    pub(super) fn list_links(&mut self) -> io::Result<()> {
        let links = self.world.netlink.links()?;
        let there: HashSet<u32> = links.iter().map(|link| link.index).collect();
        let gone: Vec<u32> = self.clients.iter().map(|client| client.index).collect();
        for index in gone.into_iter().filter(|index| !there.contains(index)) {
            self.remove(index, Departure::Gone);
        }
        for link in &links {
            self.on_link(link);
        }
        Ok(())
    }

    fn on_link(&mut self, link: &Link) {
        self.vlans.on_link(link, &mut self.world);
        let named = &self.world.config.interfaces;
        let follows = |client: &Client| client.index == link.index && client.was_named(named);
        let wanted =
            links::is_wanted(link, named, system::is_wireless) || self.clients.iter().any(follows);
        let mac = links::mac(link);
        match (find(&mut self.clients, link.index), mac) {
            (Some(client), Some(mac)) if wanted && client.mac() == mac => {
                client.link_changed(link, &mut self.world);
            }
            (Some(client), _) => {
                let why = if wanted {
                    "has another hardware address; starting over"
                } else {
                    "is ours no longer"
                };
                self.world.log.event(&client.name, why);
                self.remove(link.index, Departure::Unwanted);
                if wanted {
                    self.on_link(link);
                }
            }
            // Who only looks at an offer is in nobody's way.
            (None, Some(mac)) if wanted => {
                self.give_way(&link.name);
                let log = self.world.log;
                if self.world.only_offer() || self.claims.take(link.index, &link.name, log) {
                    self.clients.push(Client::new(link, mac, &mut self.world));
                }
            }
            (None, _) => {}
        }
    }

    /// Ends the client of an interface that bore this name when it was asked for, since another one bears it now.
    fn give_way(&mut self, name: &str) {
        let named = &self.world.config.interfaces;
        let former = |client: &&Client| client.came_as == name && !named.contains(&client.name);
        if let Some(client) = self.clients.iter().find(former) {
            let why = format!("another interface is called {name} now; leaving this one");
            self.world.log.event(&client.name, why);
            self.remove(client.index, Departure::Unwanted);
        }
    }

    fn remove(&mut self, index: u32, departure: Departure) {
        if let Some(at) = self.clients.iter().position(|client| client.index == index) {
            let mut client = self.clients.remove(at);
            self.claims.release(index);
            match departure {
                Departure::Gone => client.gone(&mut self.world),
                Departure::Unwanted => client.stop(&mut self.world),
            }
        }
    }

    pub(super) fn say_what_is_missing(&self) {
        let managed = |name: &String| self.clients.iter().any(|client| client.name == *name);
        for name in self
            .world
            .config
            .interfaces
            .iter()
            .filter(|name| !managed(name))
        {
            self.world
                .log
                .event(name, "waiting for an Ethernet interface of this name");
        }
        if self.world.config.interfaces.is_empty() && self.clients.is_empty() {
            self.world
                .log
                .event("dhcp", "waiting for a wired interface");
        }
    }
}

fn find(clients: &mut [Client], index: u32) -> Option<&mut Client> {
    clients.iter_mut().find(|client| client.index == index)
}

/// Why a client is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Departure {
    /// The interface no longer exists.
    Gone,
    /// It exists, and is no longer ours.
    Unwanted,
}
