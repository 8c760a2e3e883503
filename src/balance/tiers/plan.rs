//! An endpoint set taken apart: levels by priority, and in each the groups by place.

use std::{collections::BTreeMap, net::SocketAddr};

use crate::balance::{
    aperture::{Coordinate, aperture},
    weights::Weights,
};

/// What a plan knows of an endpoint. Endpoints are numbered as they are given.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// Orders endpoints alike on every node, for the aperture.
    pub address: SocketAddr,
    /// Its share relative to the others. An endpoint of weight 0 takes nothing.
    pub weight: u32,
    /// Lower ones first, as SRV has it; others only when no endpoint of the lower ones is usable.
    pub priority: u16,
    /// Where it is.
    pub place: Place,
    /// A number for each zone; 0 when it is not known, which counts as a zone of its own.
    pub zone: u32,
}

/// Where an endpoint is, seen from this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On this node.
    Node,
    /// In this node's zone.
    Zone,
    /// In another zone, or nobody knows.
    Elsewhere,
}

/// What is preferred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prefer {
    /// Nothing: all endpoints of a priority are one group.
    #[default]
    None,
    /// This node's zone.
    Zone,
    /// This node, then its zone.
    Node,
}

/// How to take a set apart.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What is preferred.
    pub prefer: Prefer,
    /// How many endpoints this node talks to, of those in its zone and again of those elsewhere, and where its slice
    /// begins; all when none. Endpoints on the node itself do not count.
    pub aperture: Option<(usize, Coordinate)>,
    /// How many more requests than an endpoint farther off a preferred one has, before the other takes a
    /// request in its place. Counted per weight, 1 being the mean weight.
    pub spill: u32,
}

/// How an endpoint set is taken apart, made once for each set.
#[derive(Clone, Debug)]
pub struct Plan {
    /// By priority.
    pub(super) levels: Box<[Level]>,
    /// The mean weight over the endpoint's; absent when all are equal.
    pub(super) relative: Option<Box<[f32]>>,
    pub(super) spill: f32,
    groups: usize,
}

/// The endpoints of one priority.
#[derive(Clone, Debug, Default)]
pub(super) struct Level {
    pub(super) node: Option<Group>,
    pub(super) zone: Option<Group>,
    /// One group for each other zone; or all endpoints, when there is nothing to prefer.
    pub(super) others: Box<[Group]>,
    /// Who lives where; empty when there is only one group.
    pub(super) census: Box<[Resident]>,
    /// All endpoints of the level, when an aperture leaves out some: for when all others are unusable.
    pub(super) reserve: Option<Group>,
}

/// An endpoint as it counts for its zone's capacity.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resident {
    pub(super) endpoint: u32,
    pub(super) weight: u32,
    /// 0 for the node's own zone; else one more than the number among the others.
    pub(super) district: u32,
}

/// Endpoints that one balancer chooses from. It numbers them from 0 to `weights.len()`.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its number in the plan, below [`Plan::groups`]: where a caller keeps what a balancer remembers.
    pub number: usize,
    /// Of its members, in their order.
    pub weights: Weights,
    /// Their numbers in the set; absent when the group is the whole set.
    members: Option<Box<[u32]>>,
}

impl Group {
    /// The number in the set of the group's `member`-th endpoint.
    #[inline]
    pub fn endpoint(&self, member: usize) -> usize {
        self.members.as_ref().map_or(member, |members| members[member] as usize)
    }

    /// The numbers in the set of its endpoints.
    pub fn endpoints(&self) -> impl Iterator<Item = usize> {
        (0..self.weights.len()).map(|member| self.endpoint(member))
    }
}

/// An endpoint and its number.
type Numbered<'a> = (u32, &'a Member);

impl Plan {
    /// Takes a set apart.
    pub fn new(members: &[Member], options: Options) -> Self {
        let mut priorities: BTreeMap<u16, Vec<Numbered>> = BTreeMap::new();
        for (number, member) in (0..).zip(members) {
            priorities.entry(member.priority).or_default().push((number, member));
        }
        let mut builder = Builder { set: members.len(), options, groups: 0 };
        let levels = priorities.into_values().map(|members| builder.level(&members)).collect();
        Self { levels, relative: relative(members), spill: options.spill as f32, groups: builder.groups }
    }

    /// How many groups there are.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// The group that is the whole plan, if there is but one.
    #[inline]
    pub fn only_group(&self) -> Option<&Group> {
        match &*self.levels {
            [Level { node: None, zone: None, others, reserve: None, .. }] if others.len() == 1 => {
                others.first()
            }
            _ => None,
        }
    }

    /// Every group, in the order of their numbers.
    pub fn all_groups(&self) -> impl Iterator<Item = &Group> {
        self.levels.iter().flat_map(|level| level.groups().chain(&level.reserve))
    }

    /// Every endpoint that requests go to while all are usable: those that an aperture leaves out are not among them.
    pub fn endpoints(&self) -> impl Iterator<Item = usize> {
        self.levels.iter().flat_map(Level::groups).flat_map(Group::endpoints)
    }
}

impl Level {
    /// The nearest first.
    pub(super) fn groups(&self) -> impl Iterator<Item = &Group> {
        self.node.iter().chain(&self.zone).chain(&self.others)
    }

    /// How many zones there are.
    pub(super) fn districts(&self) -> usize {
        self.others.len() + 1
    }
}

/// The mean weight over each endpoint's.
fn relative(members: &[Member]) -> Option<Box<[f32]>> {
    let first = members.first()?.weight;
    if members.iter().all(|member| member.weight == first) {
        return None;
    }
    let mean = members.iter().map(|member| f64::from(member.weight)).sum::<f64>() / members.len() as f64;
    Some(members.iter().map(|member| (mean / f64::from(member.weight.max(1))) as f32).collect())
}

struct Builder {
    /// How many endpoints the set has.
    set: usize,
    options: Options,
    groups: usize,
}

impl Builder {
    fn level(&mut self, members: &[Numbered]) -> Level {
        let is_own = |member: &Member| member.place != Place::Elsewhere;
        if self.options.prefer == Prefer::None || !members.iter().any(|(_, member)| is_own(member)) {
            let others = Box::new([self.group(members, self.size())]);
            return Level { others, reserve: self.reserve(members), ..Level::default() };
        }
        let (own, elsewhere): (Vec<_>, Vec<_>) = members.iter().partition(|(_, member)| is_own(member));
        let by_node = |member: &Member| self.options.prefer == Prefer::Node && member.place == Place::Node;
        let (node, zone): (Vec<_>, Vec<_>) = own.into_iter().partition(|(_, member)| by_node(member));
        let mut zones: BTreeMap<u32, Vec<Numbered>> = BTreeMap::new();
        for (number, member) in &elsewhere {
            zones.entry(member.zone).or_default().push((*number, member));
        }
        let zones: Vec<Vec<Numbered>> = zones.into_values().collect();
        let part = |zone: &[Numbered]| (self.size().saturating_mul(zone.len())).div_ceil(elsewhere.len());
        let sizes: Vec<usize> = zones.iter().map(|zone| part(zone)).collect();
        Level {
            census: census(&node, &zone, &zones),
            node: (!node.is_empty()).then(|| self.group(&node, usize::MAX)),
            zone: (!zone.is_empty()).then(|| self.group(&zone, self.size())),
            others: zones.iter().zip(sizes).map(|(zone, size)| self.group(zone, size)).collect(),
            reserve: self.reserve(members),
        }
    }

    fn size(&self) -> usize {
        self.options.aperture.map_or(usize::MAX, |(size, _)| size)
    }

    fn reserve(&mut self, members: &[Numbered]) -> Option<Group> {
        (members.len() > self.size()).then(|| self.group(members, usize::MAX))
    }

    /// A group of these, or of those of them that the aperture covers.
    fn group(&mut self, members: &[Numbered], size: usize) -> Group {
        let number = self.groups;
        self.groups += 1;
        let narrowed = self.options.aperture.filter(|_| members.len() > size).map(|(_, coordinate)| {
            let endpoints: Vec<(SocketAddr, u32)> =
                members.iter().map(|(_, member)| (member.address, member.weight)).collect();
            aperture(&endpoints, size, &coordinate)
        });
        if let Some(covered) = narrowed {
            let members = covered.iter().map(|(index, _)| members[*index].0).collect();
            let weights = Weights::new(covered.iter().map(|(_, weight)| *weight));
            return Group { number, weights, members: Some(members) };
        }
        let weights = Weights::new(members.iter().map(|(_, member)| member.weight));
        let part = || members.iter().map(|(number, _)| *number).collect();
        Group { number, weights, members: (members.len() < self.set).then(part) }
    }
}

fn census(node: &[Numbered], zone: &[Numbered], zones: &[Vec<Numbered>]) -> Box<[Resident]> {
    let own = node.iter().chain(zone).map(|member| (member, 0));
    let elsewhere =
        (1..).zip(zones).flat_map(|(district, zone)| zone.iter().map(move |member| (member, district)));
    own.chain(elsewhere)
        .map(|((endpoint, member), district)| Resident {
            endpoint: *endpoint,
            weight: member.weight,
            district,
        })
        .collect()
}
