// `firedrill watch`: a run at a controller, live, for anybody who may look.
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/text.h"
#include "cli/commands.h"
#include "cli/print.h"
#include "cli/rpc/ask.h"
#include "cli/rpc/history.h"
#include "cli/screen.h"
#include "controller/judge.h"
#include "controller/report.h"
#include "controller/run_left.h"

namespace firedrill {
namespace {

constexpr absl::Duration kReadWithin = absl::Seconds(60);
constexpr absl::Duration kPause = absl::Milliseconds(500);
// A controller that is started again takes a moment; so does one that goes on with its runs.
constexpr absl::Duration kAwayAtMost = absl::Minutes(2);
constexpr absl::Duration kAwaitEnd = absl::Seconds(15);

// One stream; events are added to `history`.
absl::Status Read(const Places& places, const std::string& run, bool follow,
                  std::vector<v1::Event>& history,
                  const std::function<void(const v1::Event&)>& event) {
  if (const absl::Status named = NamesController(places); !named.ok()) return named;
  const auto stub = Dial({places.controller, places.identity});
  if (!stub.ok()) return stub.status();
  grpc::ClientContext context;
  if (!follow) context.set_deadline(absl::ToChronoTime(absl::Now() + kReadWithin));
  v1::WatchRunRequest request;
  request.set_run(run);
  request.set_from_seq(history.empty() ? 1 : history.back().seq() + 1);
  request.set_follow(follow);
  const auto stream = (*stub)->WatchRun(&context, request);
  v1::WatchRunResponse response;
  while (stream->Read(&response)) {
    history.push_back(std::move(*response.mutable_event()));
    if (event) event(history.back());
  }
  const absl::Status status = Answered(places, stream->Finish());
  if (!absl::IsNotFound(status)) return status;
  return absl::NotFoundError(absl::StrCat("run ", run, ": there is no such run at ",
                                          places.controller,
                                          "; `firedrill get runs` lists those that there are"));
}

}  // namespace

absl::StatusOr<std::vector<v1::Event>> ReadRemoteHistory(const Places& places,
                                                         const std::string& run) {
  std::vector<v1::Event> history;
  const absl::Status status = Read(places, run, false, history, nullptr);
  if (!status.ok()) return status;
  if (history.empty())
    return absl::NotFoundError(absl::StrCat("run ", run, ": it has no event yet"));
  return history;
}

absl::StatusOr<std::vector<v1::Event>> FollowHistory(
    const Places& places, std::string run, const std::function<void(const v1::Event&)>& event,
    const std::function<void(const std::string&)>& say) {
  std::vector<v1::Event> history;
  absl::Time give_up = absl::InfiniteFuture();
  while (true) {
    const size_t before = history.size();
    const absl::Status status = Read(places, run, true, history, event);
    if (!history.empty()) {
      run = history.front().run();
      if (HasEnded(history)) return history;
    }
    const bool lost = absl::IsUnavailable(status) || absl::IsCancelled(status);
    if (!status.ok() && (!lost || history.empty())) return status;
    if (history.size() > before) give_up = absl::InfiniteFuture();
    if (give_up == absl::InfiniteFuture()) {
      give_up = absl::Now() + (status.ok() ? kAwaitEnd : kAwayAtMost);
      if (lost) say("the connection to the controller is lost; trying again");
    } else if (absl::Now() > give_up) {
      // It knows the run, and nobody writes it any more.
      if (status.ok()) return history;
      return status;
    }
    absl::SleepFor(kPause);
  }
}

namespace {

// For programs: what has happened and nothing else on standard output.
int WatchAs(Form form, const Places& places, const std::string& run) {
  const auto history = FollowHistory(
      places, run,
      [form](const v1::Event& event) {
        if (form == Form::kJson) std::fputs(JsonLine(event).c_str(), stdout);
        if (form == Form::kYaml) std::printf("---\n%s", YamlText(event).c_str());
        if (form == Form::kName && event.has_created()) std::printf("%s\n", event.run().c_str());
        std::fflush(stdout);
      },
      [](const std::string& words) { std::fprintf(stderr, "firedrill: %s\n", words.c_str()); });
  return history.ok() ? Judge(*history).exit_code() : ComplainOf(history.status());
}

}  // namespace

int WatchCommand(const Places& places, const std::string& run, const std::string& form) {
  if (FormOf(form) != Form::kTable) return WatchAs(FormOf(form), places, run);
  Screen screen(places.no_color);
  LiveLines lines(screen.style(), screen.terminal());
  const auto history = FollowHistory(
      places, run,
      [&](const v1::Event& event) {
        const std::string line = lines.Line(event);
        if (!line.empty()) screen.Line(line);
        if (event.has_created()) {
          screen.Line(lines.Beneath(
              absl::StrCat("Ctrl-C ends the watching only; the run is ended with: firedrill stop ",
                           event.run(), " --reason ... --controller ", places.controller)));
        }
        std::fflush(stdout);
      },
      [&](const std::string& words) { screen.Line(lines.Beneath(words)); });
  if (!history.ok()) return ComplainOf(history.status());
  const v1::Judgement judgement = Judge(*history);
  screen.Line("");
  screen.Line(SummaryText(*history, judgement, screen.style()));
  return judgement.exit_code();
}

}  // namespace firedrill
