//! `GET /metrics`: rendered off the control thread, piece by piece, as fast as the scraper reads.
//!
//! Of all scrapers together one piece is rendered at a time: however many there are, they cost one processor at most, and each has the
//! memory of a piece. A scraper that does not read holds up nobody else.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{
    BoxError,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use http_body::{Body as HttpBody, Frame};
use tokio::{sync::Mutex, task::spawn_blocking};

use super::{
    accept,
    server::{Shared, refused},
};
use crate::telemetry::{Piece, Rendering};

/// Held by whoever renders.
#[derive(Default)]
pub(super) struct Turn(Mutex<()>);

/// A piece, and the scrape that it is of.
type Rendered = Result<(Piece, Rendering), BoxError>;

impl Turn {
    async fn render(self: Arc<Self>, begin: impl FnOnce() -> Rendering + Send + 'static) -> Rendered {
        let _turn = self.0.lock().await;
        let rendering = move || {
            let mut rendering = begin();
            (rendering.piece(), rendering)
        };
        Ok(spawn_blocking(rendering).await?)
    }
}

/// Answers a scraper.
pub(super) async fn metrics(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let (format, metrics, turn) = (accept::format(&headers), shared.admin.metrics.clone(), &shared.turn);
    let body = match turn.clone().render(move || metrics.rendering(format)).await {
        Ok((Piece { text, is_last: true }, _)) => Body::from(text),
        Ok(first) => Body::new(Pieces::new(turn.clone(), first)),
        Err(error) => return refused(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    };
    let headers = [(header::CONTENT_TYPE, format.content_type()), (header::VARY, "accept")];
    (headers, body).into_response()
}

/// A body that renders the next piece when the one before has been taken.
struct Pieces {
    turn: Arc<Turn>,
    ready: Option<Bytes>,
    next: Option<Pin<Box<dyn Future<Output = Rendered> + Send>>>,
}

impl Pieces {
    fn new(turn: Arc<Turn>, first: (Piece, Rendering)) -> Self {
        let mut pieces = Self { turn, ready: None, next: None };
        let text = pieces.follow(first);
        pieces.ready = Some(text);
        pieces
    }

    fn follow(&mut self, (piece, rendering): (Piece, Rendering)) -> Bytes {
        self.next = (!piece.is_last).then(|| Box::pin(self.turn.clone().render(|| rendering)) as _);
        piece.text.into()
    }
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(text) = self.ready.take() {
            return Poll::Ready(Some(Ok(Frame::data(text))));
        }
        let Some(next) = &mut self.next else { return Poll::Ready(None) };
        let rendered = ready!(next.as_mut().poll(context));
        self.next = None;
        // An answer that breaks off is seen to: the last chunk is missing.
        Poll::Ready(Some(rendered.map(|rendered| Frame::data(self.follow(rendered)))))
    }
}
