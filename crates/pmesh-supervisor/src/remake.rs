//! Whether what a service was built from is still there, and what is done where it is not.

use crate::{Remade, Service, context::Context};

impl Context {
    /// Whether the folder of a service lacks what its run needs to be started from; where it does not, the service learns
    /// so.
    pub(crate) async fn lacks_product(&self, service: &Service) -> bool {
        let lacks = match service.state().relies_on {
            Some(build) => !self.builder.is_whole(&build).await,
            None => false,
        };
        if !lacks {
            service.product_is_whole().await;
        }
        lacks
    }

    /// Builds again what a service was built from, where its folder lacks it.
    pub(crate) async fn make_whole(&self, service: &Service) -> Remade {
        if self.lacks_product(service).await { service.remake(None).await } else { Remade::Left }
    }
}
