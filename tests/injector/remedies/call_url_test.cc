// call_url against a real server: what it sends, what counts as done, and what it refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <mutex>
#include <thread>

#include "base/time_proto.h"
#include "injector/policy.h"
#include "injector/remedies/remedy.h"
#include "tests/testing/fault_stage.h"
#include "tests/testing/http_server.h"
#include "tests/testing/test_folder.h"

namespace firedrill {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class CallUrlTest : public ::testing::Test {
 protected:
  CallUrlTest() {
    call_.set_endpoint("shop");
    call_.set_path("/flags/lower-email?by=drill");
    call_.set_leaves(v1::LEAVES_NOTHING);
    endpoint_.set_name("shop");
    endpoint_.set_url(server_.url());
  }

  v1::PlannedRemedy Planned() const {
    v1::PlannedRemedy planned;
    planned.set_name("mend");
    planned.set_node("app");
    *planned.mutable_remedy()->mutable_call_url() = call_;
    return planned;
  }
  v1::RemedyReport Run(std::stop_token stop = {}) {
    return RunRemedyBlocking(Planned(), node_, RemedyContext{"r1a2b3", endpoint_, stop});
  }
  // What Validate says; empty where it permits.
  std::string Refusal() {
    const auto remedy = MakeRemedy(Planned().remedy());
    return std::string((*remedy)->Validate(node_).message());
  }

  void Answer(ServerAnswer answer) {
    const std::lock_guard<std::mutex> lock(mutex_);
    answer_ = std::move(answer);
  }

  std::mutex mutex_;
  ServerAnswer answer_{.status = 204};
  HttpServer server_{[this](const ServerRequest&) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return answer_;
  }};
  v1::CallUrl call_;
  v1::Endpoint endpoint_;
  StageNode node_;
};

TEST_F(CallUrlTest, PostsOnceAndReportsTheStatus) {
  const v1::RemedyReport report = Run();
  EXPECT_EQ(report.state(), v1::REMEDY_STATE_DONE);
  EXPECT_EQ(report.exit_code(), 0);
  EXPECT_EQ(report.leaves(), v1::LEAVES_NOTHING);
  EXPECT_THAT(report.output(),
              HasSubstr("POST /flags/lower-email?by=drill at shop: status 204 in "));
  ASSERT_EQ(server_.seen().size(), 1u);
  const ServerRequest seen = server_.seen()[0];
  EXPECT_EQ(seen.method, "POST");
  EXPECT_EQ(seen.target, "/flags/lower-email?by=drill");
  EXPECT_EQ(seen.body, "");
  EXPECT_EQ(seen.headers.count("content-type"), 0u);
  EXPECT_EQ(seen.headers.count("authorization"), 0u);
}

TEST_F(CallUrlTest, SendsEveryMethodWithItsBodyAndType) {
  for (const char* method : {"POST", "PUT", "PATCH", "DELETE", "GET"}) {
    call_.set_method(method);
    call_.set_body("{\"on\": false}");
    EXPECT_EQ(Run().state(), v1::REMEDY_STATE_DONE) << method;
    const ServerRequest seen = server_.seen().back();
    EXPECT_EQ(seen.method, method);
    EXPECT_EQ(seen.body, "{\"on\": false}") << method;
    EXPECT_EQ(seen.headers.at("content-type"), "application/json") << method;
  }
  call_.set_content_type("text/plain; charset=utf-8");
  Run();
  EXPECT_EQ(server_.seen().back().headers.at("content-type"), "text/plain; charset=utf-8");
}

TEST_F(CallUrlTest, FailsOnAStatusThatIsNotExpected) {
  Answer({.status = 409, .body = "flag is locked\x01"});
  const v1::RemedyReport report = Run();
  EXPECT_EQ(report.state(), v1::REMEDY_STATE_FAILED);
  EXPECT_EQ(report.exit_code(), -1);
  EXPECT_THAT(report.output(), AllOf(HasSubstr("status 409"), HasSubstr(", not 200-299"),
                                     HasSubstr("flag is locked?")));
  EXPECT_EQ(report.failure(), "HTTP 409");
  // A line that is shown by itself says all.
  EXPECT_EQ(report.output().find('\n'), std::string::npos) << report.output();
  call_.set_status("409");
  EXPECT_EQ(Run().state(), v1::REMEDY_STATE_DONE);
  call_.set_status("400-408");
  EXPECT_EQ(Run().state(), v1::REMEDY_STATE_FAILED);
}

TEST_F(CallUrlTest, DoesNotFollowARedirect) {
  HttpServer other([](const ServerRequest&) { return ServerAnswer{}; });
  Answer({.status = 307, .headers = {{"Location", other.url() + "/"}}});
  const v1::RemedyReport report = Run();
  EXPECT_EQ(report.state(), v1::REMEDY_STATE_FAILED);
  EXPECT_THAT(report.output(), HasSubstr("redirects are not followed"));
  EXPECT_EQ(other.seen().size(), 0u);
}

TEST_F(CallUrlTest, SendsTheEndpointsTokenAndNeverTellsIt) {
  const std::string file = TestFolder() + "/token";
  std::ofstream(file) << "hush-hush\n";
  chmod(file.c_str(), 0600);
  endpoint_.mutable_token()->set_file(file);
  Answer({.status = 500});
  const v1::RemedyReport report = Run();
  EXPECT_EQ(server_.seen().at(0).headers.at("authorization"), "Bearer hush-hush");
  EXPECT_THAT(report.DebugString(), Not(HasSubstr("hush-hush")));
  chmod(file.c_str(), 0644);
  EXPECT_THAT(Run().output(), HasSubstr(file));
  EXPECT_EQ(server_.seen().size(), 1u) << "called without the token it should have sent";
  std::filesystem::remove(file);
}

TEST_F(CallUrlTest, RefusesLinkLocalAddressesAndOtherSchemes) {
  endpoint_.set_url("http://169.254.169.254");
  EXPECT_THAT(Run().output(), HasSubstr("link-local"));
  endpoint_.set_url("tcp://127.0.0.1:1");
  EXPECT_THAT(Run().output(), HasSubstr("needs http:// or https://"));
  endpoint_.Clear();
  EXPECT_THAT(Run().output(), HasSubstr("the site has no endpoint 'shop'"));
}

TEST_F(CallUrlTest, IsNotSentAgainAfterATimeoutOrAHangUp) {
  Answer({.delay = absl::Seconds(2)});
  *call_.mutable_timeout() = ToProto(absl::Milliseconds(150));
  const v1::RemedyReport report = Run();
  EXPECT_EQ(report.state(), v1::REMEDY_STATE_FAILED);
  EXPECT_THAT(report.output(), HasSubstr("the call may have been taken all the same"));
  EXPECT_EQ(server_.seen().size(), 1u);
  call_.clear_timeout();
  Answer({.hang_up = true});
  const v1::RemedyReport hung_up = Run();
  EXPECT_EQ(hung_up.state(), v1::REMEDY_STATE_FAILED);
  EXPECT_THAT(hung_up.output(), HasSubstr("the call may have been taken all the same"));
  EXPECT_EQ(server_.seen().size(), 2u);
}

TEST_F(CallUrlTest, SaysThatACallWasTakenWhoseAnswerIsTooLong) {
  Answer({.status = 201, .body = std::string(9 << 20, 'x')});
  const v1::RemedyReport report = Run();
  EXPECT_EQ(report.state(), v1::REMEDY_STATE_FAILED);
  EXPECT_EQ(report.failure(), "HTTP 201");
  EXPECT_THAT(
      report.output(),
      AllOf(HasSubstr("POST /flags/lower-email?by=drill at shop: the answer is longer than "),
            HasSubstr(", after status 201; the call was taken")));
}

TEST_F(CallUrlTest, DoesNotSayThatACallWasTakenThatWasNeverSent) {
  endpoint_.set_url("http://127.0.0.1:1");
  EXPECT_THAT(Run().output(), AllOf(HasSubstr("at shop: "), Not(HasSubstr("taken"))));
  // It speaks no TLS: nothing of the call is sent before.
  endpoint_.set_url("https" + server_.url().substr(4));
  EXPECT_THAT(Run().output(), Not(HasSubstr("taken")));
  EXPECT_EQ(server_.seen().size(), 0u);
}

TEST_F(CallUrlTest, EndsWhenTheRunIsStoppedAndNeverStartsAfterIt) {
  Answer({.delay = absl::Seconds(5)});
  std::stop_source source;
  std::jthread stopper([&source] {
    absl::SleepFor(absl::Milliseconds(200));
    source.request_stop();
  });
  const absl::Duration begin = RealClock().Boot();
  const v1::RemedyReport report = Run(source.get_token());
  EXPECT_LT(RealClock().Boot() - begin, absl::Seconds(2));
  EXPECT_EQ(report.state(), v1::REMEDY_STATE_FAILED);
  EXPECT_THAT(report.output(), AllOf(HasSubstr("the run was stopped"), HasSubstr("may have been")));
  EXPECT_EQ(Run(source.get_token()).output(), "not called: stopped");
  EXPECT_EQ(server_.seen().size(), 1u);
}

TEST_F(CallUrlTest, RefusesWhatTheReaderWouldNotHaveLetThrough) {
  EXPECT_EQ(Refusal(), "");
  call_.set_method("TRACE");
  EXPECT_THAT(Refusal(), HasSubstr("callUrl.method is 'TRACE'; it can be POST"));
  call_.clear_method();
  call_.set_path("flags");
  EXPECT_THAT(Refusal(), HasSubstr("a path begins with a slash"));
  call_.set_path("/a b");
  EXPECT_THAT(Refusal(), HasSubstr("has a blank in it; write %20"));
  call_.set_path("/");
  for (const char* status : {"2xx", "299-200", "99", "200-", "-"}) {
    call_.set_status(status);
    EXPECT_THAT(Refusal(), HasSubstr("write a status or a range such as 200-299")) << status;
  }
  call_.clear_status();
  for (const v1::Leaves leaves : {v1::LEAVES_UNSPECIFIED, v1::LEAVES_RESTORED}) {
    call_.set_leaves(leaves);
    EXPECT_THAT(Refusal(), HasSubstr("callUrl.leaves must be nothing or changed"));
  }
  EXPECT_EQ(server_.seen().size(), 0u);
}

TEST_F(CallUrlTest, FallsUnderTheNodesPolicy) {
  const auto permits = [this](v1::Leaves leaves) {
    return std::string(PermitsRemedy(node_.spec(), Planned(), leaves).message());
  };
  EXPECT_EQ(permits(v1::LEAVES_NOTHING), "");
  EXPECT_THAT(permits(v1::LEAVES_CHANGED), HasSubstr("set policy.lastingRemedies"));
  node_.mutable_spec.mutable_policy()->set_lasting_remedies(true);
  EXPECT_EQ(permits(v1::LEAVES_CHANGED), "");
  node_.mutable_spec.add_endpoints("admin");
  EXPECT_THAT(permits(v1::LEAVES_NOTHING), HasSubstr("does not permit the endpoint shop"));
  node_.mutable_spec.add_endpoints("shop");
  EXPECT_EQ(permits(v1::LEAVES_NOTHING), "");
  node_.mutable_spec.mutable_policy()->add_remedies("runProgram");
  EXPECT_THAT(permits(v1::LEAVES_NOTHING), HasSubstr("does not permit callUrl"));
}

}  // namespace
}  // namespace firedrill
