//! What must hold of the flow tables after any sequence.

use dataplane_common::{Address, Flow, FlowKey};

use crate::plan::CONTAINERS;
use crate::world::{FlowTable, World};

/// Checks both tables and the counts; gives the number of flows.
pub(crate) fn check(world: &World) -> Result<u64, String> {
    let mut owned = vec![0_u64; CONTAINERS.len() + 1];
    one(&world.flows4, &mut owned)?;
    one(&world.flows6, &mut owned)?;
    // Slot 0 is the host's.
    for (slot, found) in owned.iter().enumerate() {
        let counted = world.counts.get(&(slot as u32), 0).map_err(|error| error.to_string())?;
        if counted != *found {
            return Err(format!("endpoint {slot} owns {found} flows and is said to own {counted}"));
        }
    }
    Ok(owned.iter().sum())
}

/// Every entry has its sibling, which names it in turn; one of the two is the original's. Counts flows by owner.
fn one<A: Address + std::fmt::Debug>(table: &FlowTable<A>, owned: &mut [u64]) -> Result<(), String>
where
    FlowKey<A>: aya::Pod,
    Flow<A>: aya::Pod,
{
    for entry in table.iter() {
        let (key, flow) = entry.map_err(|error| error.to_string())?;
        let sibling_key = flow.sibling(key.protocol);
        let Ok(sibling) = table.get(&sibling_key, 0) else {
            return Err(format!("half a flow is left: {key:?} without {sibling_key:?}"));
        };
        if sibling.sibling(key.protocol) != key {
            return Err(format!("the other half of {key:?} is another one's: {sibling_key:?}"));
        }
        if flow.is_original() == sibling.is_original() {
            return Err(format!("both halves of {key:?} have one direction"));
        }
        if flow.is_original() {
            let owner = flow.owner as usize;
            *owned.get_mut(owner).ok_or(format!("{key:?} is owned by nobody: {owner}"))? += 1;
        }
    }
    Ok(())
}
