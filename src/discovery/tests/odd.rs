//! Answers that are not to be believed.

use hickory_resolver::proto::{
    op::Message,
    rr::{Name, RData, Record, rdata::A},
};

use super::*;

const LIE: Ipv4Addr = Ipv4Addr::new(10, 6, 6, 6);

/// Makes an answer out of the right one.
type Twist = fn(Message) -> Message;

/// Answers each query with one record, first as `twist` makes it, and then, if it is `honest`, rightly.
async fn odd_server(twist: Twist, honest: bool) -> SocketAddr {
    let socket = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        let mut buffer = [0; 1500];
        while let Ok((size, from)) = socket.recv_from(&mut buffer).await {
            let query = Message::from_vec(&buffer[..size]).unwrap();
            let lie = twist(answer(&query, LIE)).to_vec().unwrap();
            socket.send_to(&lie, from).await.unwrap();
            if honest {
                socket.send_to(&answer(&query, V4).to_vec().unwrap(), from).await.unwrap();
            }
        }
    });
    address
}

fn answer(query: &Message, ip: Ipv4Addr) -> Message {
    let mut message = Message::response(query.id, query.op_code);
    let question = query.queries[0].clone();
    message.add_query(question.clone());
    message.add_answer(Record::from_rdata(question.name().clone(), 60, RData::A(A(ip))));
    message
}

fn another_id(mut message: Message) -> Message {
    message.metadata.id = message.metadata.id.wrapping_add(1);
    message
}

fn another_question(mut message: Message) -> Message {
    let name = Name::from_ascii("other.test.").unwrap();
    message.queries[0].set_name(name.clone());
    message.answers[0].name = name;
    message
}

fn another_owner(mut message: Message) -> Message {
    message.answers[0].name = Name::from_ascii("other.test.").unwrap();
    message
}

#[tokio::test(flavor = "local")]
async fn an_answer_with_another_id_or_question_is_passed_over_for_the_right_one() {
    for twist in [another_id as Twist, another_question] {
        let server = odd_server(twist, true).await;
        let answer = lookup(&impatient(&[server]), "reviews.test").await.unwrap();
        assert_eq!(ips(&answer), [V4]);
    }
}

#[tokio::test(flavor = "local")]
async fn an_answer_with_another_id_or_question_alone_is_none() {
    for twist in [another_id as Twist, another_question] {
        let server = odd_server(twist, false).await;
        let unanswered = lookup(&impatient(&[server]), "reviews.test").await.unwrap_err();
        assert_eq!(unanswered.failure.kind, FailureKind::Timeout);
    }
}

#[tokio::test(flavor = "local")]
async fn records_of_another_name_are_no_answer() {
    let server = odd_server(another_owner, false).await;
    let unanswered = lookup(&impatient(&[server]), "reviews.test").await.unwrap_err();
    assert_eq!(unanswered.failure.kind, FailureKind::NoRecords);
}

#[tokio::test(flavor = "local")]
async fn aliases_that_lead_in_a_circle_end_in_a_failure() {
    let server = odd_server(
        |mut message| {
            let owner = message.queries[0].name().clone();
            let target = if owner.to_string().starts_with('a') { "b.test." } else { "a.test." };
            let target = hickory_resolver::proto::rr::rdata::CNAME(Name::from_ascii(target).unwrap());
            message.answers = vec![Record::from_rdata(owner, 60, RData::CNAME(target))];
            message
        },
        false,
    )
    .await;
    let unanswered = lookup(&impatient(&[server]), "a.test").await.unwrap_err();
    assert!(unanswered.failure.message.contains("its aliases lead nowhere"), "{unanswered:?}");
}
