//! VLAN interfaces that fixed settings ask for: made when their parent is there, removed when we stop.

use std::fs;

use gokrazy_netlink::Link;
use nix::errno::Errno;

use crate::world::World;

/// What is asked for, and what of it was made by us.
#[derive(Debug, Default)]
pub struct Vlans {
    wanted: Vec<Vlan>,
    made: Vec<String>,
}

#[derive(Debug)]
struct Vlan {
    name: String,
    parent: String,
    id: u16,
    /// The errno that the kernel refused it with last.
    refused: Option<i32>,
}

impl Vlans {
    /// Reads what the configuration folder asks for.
    pub fn read(world: &World) -> Self {
        let entries = fs::read_dir(&world.config.config_dir).into_iter().flatten();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let named = &world.config.interfaces;
        let managed = |name: &String| named.is_empty() || named.contains(name);
        let vlan = |name: String| {
            let (parent, id) = world.fixed(&name)?.vlan?;
            Some(Vlan {
                name,
                parent,
                id,
                refused: None,
            })
        };
        Self {
            wanted: names.filter(managed).filter_map(vlan).collect(),
            made: Vec::new(),
        }
    }

    /// A link is there: makes what is asked for on it; why it cannot is told of once.
    pub fn on_link(&mut self, link: &Link, world: &mut World) {
        let wanted = self.wanted.iter_mut();
        for vlan in wanted.filter(|vlan| vlan.parent == link.name) {
            match world.netlink.add_vlan(link.index, &vlan.name, vlan.id) {
                Ok(()) => {
                    let line = format!("made VLAN {} on {}", vlan.id, vlan.parent);
                    world.log.event(&vlan.name, line);
                    vlan.refused = None;
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
            if let Err(error) = world.netlink.delete_link(link.index) {
                world.log.event(&link.name, format!("remove: {error}"));
            }
        }
    }
}
