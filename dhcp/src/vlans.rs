//! VLAN interfaces that fixed settings ask for: made when their parent is there, removed when we stop.
//!
//! Each bears an alias that names its file (`ip link` shows it), by which the next run knows what a killed one has left;
//! what bears none is somebody else's.

use std::fs;
use std::path::Path;

use gokrazy_netlink::Link;
use nix::errno::Errno;

use crate::claim;
use crate::config::Goal;
use crate::world::World;

/// What is asked for, and what of it was made by us.
#[derive(Debug, Default)]
pub struct Vlans {
    wanted: Vec<Vlan>,
    made: Vec<String>,
    /// Whether the folder of settings could be read, so that what it does not ask for is known.
    is_complete: bool,
}

#[derive(Debug)]
struct Vlan {
    name: String,
    parent: String,
    id: u16,
    /// Whether it is among the interfaces that this process manages.
    is_managed: bool,
    /// The errno that the kernel refused it with last.
    refused: Option<i32>,
}

impl Vlans {
    /// Reads what the configuration folder asks for.
    pub fn read(world: &World) -> Self {
        let entries = fs::read_dir(&world.config.config_dir);
        let is_complete = entries.is_ok();
        let entries = entries.into_iter().flatten();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let named = &world.config.interfaces;
        let vlan = |name: String| {
            let (parent, id) = world.fixed(&name)?.vlan?;
            Some(Vlan {
                is_managed: named.is_empty() || named.contains(&name),
                name,
                parent,
                id,
                refused: None,
            })
        };
        Self {
            wanted: names.filter_map(vlan).collect(),
            made: Vec::new(),
            is_complete,
        }
    }

    /// Takes over what an earlier run has made and not removed; removes what of it is asked for no longer. What another
    /// process manages is that one's, and a run that ends when it has an address leaves what it found.
    pub fn take_over(&mut self, world: &mut World) {
        if !self.is_complete || world.only_offer() {
            return;
        }
        let is_passing = matches!(world.config.goal, Goal::Once(_));
        let links = world.netlink.links().unwrap_or_default();
        for link in &links {
            match fate(link, &links, &world.config.config_dir, &self.wanted) {
                Fate::Ours if !is_passing && claim::is_free(link.index) => {
                    self.made.push(link.name.clone());
                }
                Fate::Stale if claim::is_free(link.index) => {
                    let line = "removing the VLAN of an earlier run";
                    world.log.event(&link.name, line);
                    delete(link, world);
                }
                Fate::Foreign | Fate::Ours | Fate::Stale => {}
            }
        }
    }

    /// A link is there: makes what is asked for on it; why it cannot is told of once.
    pub fn on_link(&mut self, link: &Link, world: &mut World) {
        let wanted = self.wanted.iter_mut();
        for vlan in wanted.filter(|vlan| vlan.is_managed && vlan.parent == link.name) {
            match world.netlink.add_vlan(link.index, &vlan.name, vlan.id) {
                Ok(()) => {
                    let line = format!("made VLAN {} on {}", vlan.id, vlan.parent);
                    world.log.event(&vlan.name, line);
                    vlan.refused = None;
                    let alias = alias(&world.config.config_dir, &vlan.name);
                    if let Err(error) = world.netlink.set_alias(&vlan.name, &alias) {
                        let line = format!("note whose it is: {error}");
                        world.log.event(&vlan.name, line);
                    }
                    if !self.made.contains(&vlan.name) {
                        self.made.push(vlan.name.clone());
                    }
                    // A VLAN has no carrier while its parent is down.
                    if !link.is_up()
                        && let Err(error) = world.netlink.set_up(link.index)
                    {
                        world.log.event(&link.name, format!("set up: {error}"));
                    }
                }
                Err(error) if error.raw_os_error() == Some(Errno::EEXIST as i32) => {}
                // Tried again with the next news of the parent, which may have been on its way out.
                Err(error) => {
                    let errno = error.raw_os_error();
                    if vlan.refused != errno {
                        let hint = match errno {
                            Some(code) if code == Errno::EOPNOTSUPP as i32 => {
                                " (is the kernel's module 8021q loaded?)"
                            }
                            _ => "",
                        };
                        let (id, parent) = (vlan.id, &vlan.parent);
                        let line = format!("make VLAN {id} on {parent}: {error}{hint}");
                        world.log.event(&vlan.name, line);
                    }
                    vlan.refused = errno;
                }
            }
        }
    }

    /// A link is gone: if it was one of ours that someone removed, it is made again.
    pub fn on_link_gone(&mut self, world: &mut World) {
        if self.wanted.is_empty() {
            return;
        }
        for link in world.netlink.links().unwrap_or_default() {
            self.on_link(&link, world);
        }
    }

    /// Removes what was made.
    pub fn remove(&mut self, world: &mut World) {
        let links = world.netlink.links().unwrap_or_default();
        let made = std::mem::take(&mut self.made);
        for link in links.iter().filter(|link| made.contains(&link.name)) {
            delete(link, world);
        }
    }
}

fn delete(link: &Link, world: &mut World) {
    if let Err(error) = world.netlink.delete_link(link.index) {
        world.log.event(&link.name, format!("remove: {error}"));
    }
}

/// What a VLAN of ours bears that was made for the file `name` of this folder.
fn alias(folder: &Path, name: &str) -> String {
    format!("dhcp, for {}", folder.join(name).display())
}

/// What becomes of a link that was there before us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is not for us to remove: somebody else's, or renamed by somebody, or for another process of ours to manage.
    Foreign,
    /// An earlier run made it, and it is as the settings ask: it goes when we stop.
    Ours,
    /// An earlier run made it, and nothing asks for it as it is.
    Stale,
}

fn fate(link: &Link, links: &[Link], folder: &Path, wanted: &[Vlan]) -> Fate {
    let Some((parent, id)) = link.vlan else {
        return Fate::Foreign;
    };
    if link.alias.as_deref() != Some(&alias(folder, &link.name)) {
        return Fate::Foreign;
    }
    let Some(vlan) = wanted.iter().find(|vlan| vlan.name == link.name) else {
        return Fate::Stale;
    };
    let is_parent = |other: &Link| other.index == parent && other.name == vlan.parent;
    match vlan.is_managed {
        false => Fate::Foreign,
        true if vlan.id == id && links.iter().any(is_parent) => Fate::Ours,
        true => Fate::Stale,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A VLAN with id 10 on `eth0`, as the run for `/settings` leaves it.
    fn left() -> Link {
        Link {
            index: 9,
            name: "lan10".to_owned(),
            kind: Some("vlan".to_owned()),
            vlan: Some((2, 10)),
            alias: Some("dhcp, for /settings/lan10".to_owned()),
            ..Link::default()
        }
    }

    fn asked(name: &str, parent: &str, id: u16) -> Vlan {
        Vlan {
            name: name.to_owned(),
            parent: parent.to_owned(),
            id,
            is_managed: true,
            refused: None,
        }
    }

    #[track_caller]
    fn check(link: &Link, wanted: &[Vlan], fate: Fate) {
        let other = |index, name: &str| Link {
            index,
            name: name.to_owned(),
            ..Link::default()
        };
        let links = [other(2, "eth0"), other(3, "eth1"), link.clone()];
        let got = super::fate(link, &links, Path::new("/settings"), wanted);
        assert_eq!(got, fate, "{link:?} {wanted:?}");
    }

    #[test]
    fn what_an_earlier_run_left_goes_unless_it_is_asked_for() {
        check(&left(), &[], Fate::Stale);
        check(&left(), &[asked("lan20", "eth0", 20)], Fate::Stale);
        check(&left(), &[asked("lan10", "eth0", 10)], Fate::Ours);
        // The same name, and another wire.
        check(&left(), &[asked("lan10", "eth0", 20)], Fate::Stale);
        check(&left(), &[asked("lan10", "eth1", 10)], Fate::Stale);
        let another = Vlan {
            is_managed: false,
            ..asked("lan10", "eth0", 20)
        };
        check(&left(), &[another], Fate::Foreign);
    }

    #[test]
    fn what_is_not_known_to_be_ours_stays() {
        let aliases = [
            None,
            Some("uplink"),
            Some("dhcp, for /elsewhere/lan10"),
            Some("dhcp, for /settings/lan1"),
        ];
        for alias in aliases {
            let link = Link {
                alias: alias.map(str::to_owned),
                ..left()
            };
            check(&link, &[], Fate::Foreign);
            check(&link, &[asked("lan10", "eth0", 20)], Fate::Foreign);
        }
        let renamed = Link {
            name: "uplink".to_owned(),
            ..left()
        };
        check(&renamed, &[], Fate::Foreign);
        let no_vlan = Link {
            vlan: None,
            ..left()
        };
        check(&no_vlan, &[], Fate::Foreign);
    }
}
