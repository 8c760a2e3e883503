//! Why a request would go where it goes, as the command line prints it.

use std::fmt;

use super::{
    explain::{Chosen, Explanation, Share},
    explain_policy::Allowed,
};

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "listener  {}", self.listener)?;
        let query = self.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        writeln!(f, "request   {} host {} path {}{query}", self.method, self.host, self.path)?;
        writeln!(f, "caller    {}", self.caller)?;
        match &self.route {
            Some(route) => write!(f, "{route}")?,
            None => writeln!(f, "route     none: the answer is 404 no_route")?,
        }
        if !self.others.is_empty() {
            writeln!(f, "other routes of this listener")?;
        }
        let width = self.others.iter().map(|other| other.name.chars().count()).max().unwrap_or(0);
        for other in &self.others {
            let outcome = if other.matches { "matches too, but" } else { "no match:" };
            writeln!(f, "  {:width$}  {outcome} {}", other.name, other.reason)?;
        }
        Ok(())
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "policy {}: {} ({})", self.by, self.decision, self.because)?;
        match &self.would_deny {
            Some(by) => write!(f, "; in dry-run mode, {by} would deny it"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_none = |limit: &Option<String>| limit.clone().unwrap_or_else(|| "none".to_owned());
        writeln!(f, "route     {}", self.name)?;
        writeln!(f, "because   {}", self.because)?;
        writeln!(f, "timeout   {}, per attempt {}", or_none(&self.timeout), or_none(&self.attempt_timeout))?;
        writeln!(f, "backends")?;
        let width = self.backends.iter().map(|share| share.service.chars().count()).max().unwrap_or(0);
        for share in &self.backends {
            let Share { service, percent, source, protocol, balancer, connect_timeout, policy } = share;
            write!(f, "  {percent:5.1} %  {service:width$}  {source}; protocol {protocol}, ")?;
            writeln!(f, "balancer {balancer}, connect timeout {connect_timeout}")?;
            writeln!(f, "           {policy}")?;
        }
        for (name, what) in [("retry", &self.retry), ("hedge", &self.hedge)] {
            if let Some(what) = what {
                writeln!(f, "{name:8}  {what}")?;
            }
        }
        if !self.failover.is_empty() {
            writeln!(f, "failover  {}; back after {}", self.failover.join(", "), self.failover_back_after)?;
        }
        if let Some(fault) = &self.fault {
            writeln!(f, "fault     {fault}")?;
        }
        if let Some(token) = &self.token {
            writeln!(f, "token     {token}")?;
        }
        if let Some(authorize) = &self.authorize {
            writeln!(f, "authorize {authorize}")?;
        }
        Ok(())
    }
}
