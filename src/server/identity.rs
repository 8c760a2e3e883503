//! Who a caller is, by what the kernel and its certificate tell.

use std::rc::Rc;

use super::handshake::Secured;
use crate::{auth::Identity, proxy::Worker};

/// Who is at the other end of a connection.
pub(super) async fn identify(_worker: &Worker, secured: &Secured) -> Rc<Identity> {
    let unknown = Identity::unknown();
    Rc::new(Identity { certificate: secured.certificate.clone(), is_node: secured.is_node, ..unknown })
}
