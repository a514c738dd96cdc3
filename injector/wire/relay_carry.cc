// How a relay carries bytes one way: read, let the codec look, hold or write.
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "injector/wire/goodbye.h"
#include "injector/wire/relay.h"

namespace firedrill::wire {
namespace {

// One way of one connection reads so often before others have their turn.
constexpr int kReads = 8;
// After so many full reads in a row it is bulk, and worth a pipe.
constexpr int kBulk = 4;
constexpr size_t kSpliced = 1 << 20;
// A slow flow is fed by this much of its future, so that the sender feels the rate.
constexpr double kFedSeconds = 0.02;
constexpr size_t kFedLeast = 16 * 1024;
// An idle connection keeps no more than this of the beginning of a message.
constexpr size_t kSmallKept = 64;

uint32_t Micros(absl::Duration delay) {
  const int64_t micros = absl::ToInt64Microseconds(absl::Ceil(delay, absl::Microseconds(1)));
  return static_cast<uint32_t>(std::clamp<int64_t>(micros, 0, UINT32_MAX));
}

}  // namespace

Nanos Relay::Now() {
  if (now_ == 0) now_ = NowNanos();
  return now_;
}

// Asked after the read, so never before the arrival: nothing is let go early.
Nanos Relay::Arrived() {
  if (arrived_ == 0) arrived_ = NowNanos();
  return arrived_;
}

void Relay::Carry(Direction direction) {
  for (int reads = 0;; ++reads) {
    Drain(direction);
    const size_t room = Room(direction);
    if (room == 0) return;
    if (reads == kReads) {
      again_ = true;
      return;
    }
    if (!(MaySplice(direction) ? SpliceSome(direction) : ReadSome(direction, room))) return;
  }
}

// How many bytes may be read now.
size_t Relay::Room(Direction direction) const {
  const Way& way = ways_[direction];
  if (!source(direction).readable || way.last != Last::kNothing || cut_ != Cut::kNo) return 0;
  if (way.dropped) return Lane::kScratch;
  if (!destination(direction).writable) return 0;
  size_t limit = lane_.settings().max_held;
  if (way.flow.rate() > 0 && lane_.orders().delay[direction].none()) {
    limit = std::min(limit, kFedLeast + static_cast<size_t>(way.flow.rate() * kFedSeconds));
  }
  return limit - std::min(limit, way.flow.held());
}

bool Relay::ReadSome(Direction direction, size_t room) {
  Socket& from = source(direction);
  Way& way = ways_[direction];
  char* const scratch = lane_.scratch();
  const size_t kept = way.kept.size();
  room = std::min(room, Lane::kScratch - kept);
  const ssize_t count = read(from.fd.get(), scratch + kept, room);
  arrived_ = 0;
  if (!Came(direction, count)) {
    if (way.last == Last::kNothing) return from.readable;
    Emit(direction, way.kept, DrawHold(direction));
    way.kept.clear();
    return false;
  }
  way.full_reads = static_cast<size_t>(count) == Lane::kScratch ? way.full_reads + 1 : 0;
  // A short read has emptied the socket: what comes later is a new event. Only of an end that lies
  // behind it there would be none.
  if (static_cast<size_t>(count) < room && !from.closing) from.readable = false;
  if (kept > 0) {
    memcpy(scratch, way.kept.data(), kept);
    way.kept.clear();
    if (way.kept.capacity() > kSmallKept) way.kept.shrink_to_fit();
  }
  const absl::string_view bytes(scratch, kept + static_cast<size_t>(count));
  const Hold hold = DrawHold(direction);
  if (codec_ == nullptr) {
    const bool goodbye = direction == kToServer && IsGoodbye(lane_.settings().protocol, bytes);
    if (goodbye && leak_) {
      KeepBack(bytes);
    } else {
      Emit(direction, bytes, hold);
    }
  } else {
    Look(direction, bytes, hold);
    NoteCodec();
  }
  return true;
}

bool Relay::Came(Direction direction, ssize_t count) {
  if (count > 0) return true;
  if (count < 0 && errno == EINTR) return false;
  Socket& from = source(direction);
  from.readable = false;
  if (count < 0 && errno == EAGAIN) return false;
  ways_[direction].last = count < 0 || from.broken ? Last::kReset : Last::kFin;
  return false;
}

bool Relay::MaySplice(Direction direction) const {
  const Way& way = ways_[direction];
  return way.full_reads >= kBulk && codec_ == nullptr && way.empty() && way.kept.empty() &&
         way.flow.rate() == 0 && lane_.orders().delay[direction].none() && !way.dropped && !leak_;
}

bool Relay::SpliceSome(Direction direction) {
  Way& way = ways_[direction];
  way.pipe = lane_.pipes.Borrow();
  if (way.pipe == nullptr) {
    way.full_reads = 0;
    return true;
  }
  const ssize_t count = splice(source(direction).fd.get(), nullptr, way.pipe->in.get(), nullptr,
                               kSpliced, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  const bool came = Came(direction, count);
  if (came) way.pipe->held = static_cast<size_t>(count);
  // Single messages go faster by read and write.
  if (count < static_cast<ssize_t>(Lane::kScratch) / 8) way.full_reads = 0;
  DrainPipe(direction);
  return came || source(direction).readable;
}

void Relay::DrainPipe(Direction direction) {
  Way& way = ways_[direction];
  while (way.pipe != nullptr && way.pipe->held > 0) {
    Socket& to = destination(direction);
    if (!to.writable) return;
    const ssize_t count = splice(way.pipe->out.get(), nullptr, to.fd.get(), nullptr, way.pipe->held,
                                 SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (count > 0) {
      way.pipe->held -= static_cast<size_t>(count);
      Counters::Add(lane_.counters.bytes[direction], static_cast<uint64_t>(count));
    } else if (count < 0 && errno == EAGAIN) {
      to.writable = false;
    } else if (count == 0 || errno != EINTR) {
      Broke(direction);
    }
  }
  if (way.pipe != nullptr) lane_.pipes.GiveBack(std::move(way.pipe));
}

// What the destination had still sent us is carried on; the end of that ends the relay.
void Relay::Broke(Direction direction) {
  Socket& to = destination(direction);
  to.broken = to.readable = to.closing = true;
  ways_[direction].Drop();
  again_ = true;
}

Hold Relay::DrawHold(Direction direction) {
  const Delay& delay = lane_.orders().delay[direction];
  return {delay.none() ? 0 : delay.Draw(&ways_[direction].chance), 0};
}

void Relay::Look(Direction direction, absl::string_view bytes, Hold hold) {
  size_t from = 0;  // What lies in front has been emitted, or dropped.
  size_t at = 0;    // What lies in front has been looked at.
  while (at < bytes.size() && cut_ == Cut::kNo) {
    const absl::string_view rest = bytes.substr(at);
    const Piece piece =
        direction == kToServer ? codec_->FromClient(rest) : codec_->FromServer(rest);
    const bool ends = piece.step == Step::kCut || piece.step == Step::kClose;
    const bool progress = piece.length > 0 || !piece.instead.empty() || ends;
    const bool sound = piece.step == Step::kMore ? rest.size() < kMaxText
                                                 : progress && piece.length <= rest.size();
    if (!sound) {
      // A defect of the codec must not become one of the connection.
      misled_ = true;
      break;
    }
    if (piece.step == Step::kMore) {
      Emit(direction, bytes.substr(from, at - from), hold);
      ways_[direction].kept.assign(rest.data(), rest.size());
      return;
    }
    const size_t begin = at;
    at += piece.length;
    if (piece.goodbye && leak_) {
      Emit(direction, bytes.substr(from, begin - from), hold);
      KeepBack(bytes.substr(begin, piece.length));
      from = at;
      continue;
    }
    if (piece.step == Step::kPass) continue;
    if (piece.step == Step::kCancel) {
      const bool asks = direction == kToServer;
      lane_.settings().cancels->Ask(piece.cancels, asks ? &lane_ : nullptr, id_);
      if (!asks) continue;
      Emit(direction, bytes.substr(from, begin - from), hold);
      Emit(direction, bytes.substr(begin, piece.length), {hold.network, kAskFor});
      from = at;
      continue;
    }
    if (piece.step == Step::kRequest) {
      Counters::Add(lane_.counters.requests, 1);
      const Rules* rules = lane_.orders().rules.get();
      if (rules == nullptr) continue;
      if (piece.request.cut) Counters::Add(lane_.counters.cut, 1);
      const Decision decision = rules->Decide(piece.request);
      if (decision.failure == nullptr && decision.delay <= absl::ZeroDuration()) continue;
      Hold longer = {hold.network, Micros(decision.delay), decision.hit};
      Emit(direction, bytes.substr(from, begin - from), hold);
      from = begin;
      if (decision.failure != nullptr && Fail(*decision.failure, decision.failing, longer)) {
        from = at;
      } else if (longer.request > 0) {
        longer.ticket = codec_->Ticket();
        Emit(direction, bytes.substr(begin, piece.length), longer);
        from = at;
      }
      continue;
    }
    // Gathered, so that it goes out together with what is around it.
    Gather(direction, bytes.substr(from, begin - from), hold);
    Gather(direction, piece.instead, hold);
    from = at;
    if (ends) cut_ = piece.step == Step::kCut ? Cut::kReset : Cut::kClose;
    if (piece.step == Step::kCut && planned_cut_ != nullptr) {
      CountFailed(*planned_cut_->rules, planned_cut_->rule);
    }
  }
  if (cut_ == Cut::kNo) Emit(direction, bytes.substr(from), hold);
}

bool Relay::Fail(const v1::QueryFailure& failure, size_t rule, Hold hold) {
  const std::optional<Substitute> substitute = codec_->Fail(failure);
  if (!substitute.has_value()) return false;
  planned_cut_.reset();
  if (failure.how_case() == v1::QueryFailure::kCutAfter) {
    // An answer with fewer bytes passes whole.
    planned_cut_ = std::make_unique<PlannedCut>(PlannedCut{lane_.orders().rules, rule});
  } else {
    CountFailed(*lane_.orders().rules, rule);
  }
  Emit(kToServer, substitute->to_server, hold);
  Emit(kToClient, substitute->to_client, {DrawHold(kToClient).network, hold.request});
  if (substitute->cut) cut_ = Cut::kReset;
  if (substitute->close) cut_ = Cut::kClose;
  return true;
}

void Relay::CountFailed(const Rules& rules, size_t rule) {
  rules.NoteFailed(rule);
  Counters::Add(lane_.counters.failed, 1);
}

void Relay::Emit(Direction direction, absl::string_view bytes, Hold hold) {
  Way& way = ways_[direction];
  if (bytes.empty() || way.dropped) return;
  if (way.empty() && hold.none() && way.flow.rate() == 0 && destination(direction).writable) {
    bytes.remove_prefix(Write(direction, bytes));
    if (bytes.empty()) return;
  }
  Gather(direction, bytes, hold);
}

void Relay::KeepBack(absl::string_view bytes) {
  if (ways_[kToServer].dropped) return;
  ways_[kToServer].flow.Stop();
  Gather(kToServer, bytes, {});
}

void Relay::Gather(Direction direction, absl::string_view bytes, Hold hold) {
  Way& way = ways_[direction];
  if (way.dropped) return;
  const bool begins = way.flow.Append(bytes, hold.none() ? 0 : Arrived(), hold);
  const auto& log = lane_.holds[direction].network;
  if (begins && hold.network > 0 && log != nullptr) log->AddBegun();
}

size_t Relay::Write(Direction direction, absl::string_view bytes) {
  Socket& to = destination(direction);
  ssize_t count;
  do {
    count = send(to.fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  } while (count < 0 && errno == EINTR);
  if (count < 0 && errno != EAGAIN) {
    Broke(direction);
    return bytes.size();
  }
  const size_t written = count < 0 ? 0 : static_cast<size_t>(count);
  if (written < bytes.size()) to.writable = false;
  Counters::Add(lane_.counters.bytes[direction], written);
  return written;
}

void Relay::Drain(Direction direction) {
  Way& way = ways_[direction];
  if (way.pipe != nullptr) DrainPipe(direction);
  while (!way.flow.empty() && destination(direction).writable) {
    if (way.flow.rate() > 0) {
      Counters::Add(lane_.counters.waited[direction], way.flow.CountWaiting(Now()));
    }
    const absl::string_view bytes = way.flow.Ready(Now());
    if (bytes.empty()) return;
    const size_t written = Write(direction, bytes);
    if (way.dropped) return;
    way.flow.Wrote(written, Now(), &lane_.holds[direction]);
  }
}

void Relay::NoteCodec() {
  if (!noted_encrypted_ && codec_->encrypted()) {
    noted_encrypted_ = true;
    Counters::Add(lane_.counters.encrypted, 1);
    Counters::Add(lane_.counters.encrypted_open, 1);
  }
  if (!noted_lost_ && (misled_ || !codec_->lost().empty())) {
    noted_lost_ = true;
    Counters::Add(lane_.counters.lost_open, 1);
    lane_.NoteLost(misled_ ? "the codec contradicts itself" : codec_->lost());
  }
  if (const uint64_t unmatched = codec_->unmatched(); unmatched != unmatched_) {
    Counters::Add(lane_.counters.unmatched, unmatched - unmatched_);
    unmatched_ = unmatched;
  }
  const bool blind = noted_encrypted_ || noted_lost_;
  if (blind && ways_[kToServer].kept.empty() && ways_[kToClient].kept.empty()) codec_.reset();
}

}  // namespace firedrill::wire
