//! One test body that runs over HTTP/1.1 and over HTTP/2.

/// Defines a test for each protocol that a client can speak; the body gets it as its argument.
macro_rules! over_both_protocols {
    ($(#[$doc:meta])* async fn $name:ident($speaks:ident: Speaks) $body:block) => {
        $(#[$doc])*
        mod $name {
            use super::*;

            async fn run($speaks: Speaks) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
            async fn over_http1() {
                run(Speaks::Http1).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
            async fn over_http2() {
                run(Speaks::Http2).await;
            }
        }
    };
}
