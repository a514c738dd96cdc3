// One connection of a client and the one to the server that was opened for it: bytes go both ways,
// through a codec where there is one, under the lane's orders.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/strings/string_view.h"
#include "base/unique_fd.h"
#include "injector/wire/codec.h"
#include "injector/wire/flow.h"
#include "injector/wire/lane.h"
#include "injector/wire/loop.h"
#include "injector/wire/pipes.h"

namespace firedrill::wire {

class Relay final : public Watcher {
 public:
  Relay(Lane& lane, uint64_t id, UniqueFd client);
  ~Relay() override;

  // The lane owns it; any call may end it, and have it removed.
  void Begin();
  // The lane's orders have changed.
  void Obey(bool rules_changed);
  // RST to the client, and a close to the server. The relay is removed.
  void Reset();
  // This is the session of `key`, and the request that it holds is what it has under way: that is
  // cancelled. Otherwise nothing changes.
  bool Cancel(uint64_t key);
  // Whether what it has asked to cancel was held here.
  void Told(bool cancelled);
  uint64_t id() const { return id_; }
  // It could not be looked into, or not any more.
  bool encrypted() const { return noted_encrypted_; }
  bool lost() const { return noted_lost_; }

  void OnEvents(int slot, uint32_t events) override;
  void OnAlarm() override;

  // Where the lane finds it again.
  size_t place = 0;

 private:
  enum End { kClient = 0, kServer = 1 };
  enum class Stage : uint8_t { kWaiting, kConnecting, kOpen, kOver };
  // By the codec's or a rule's word: nothing is read any more, what is held goes out, and then ...
  enum class Cut : uint8_t { kNo, kReset, kClose };
  enum class Last : uint8_t { kNothing, kFin, kReset };

  // One socket. `readable` and `writable` are what the last event and the last call said.
  struct Socket {
    UniqueFd fd;
    bool readable = false;
    bool writable = false;
    bool closing = false;  // A FIN lies somewhere behind what is still to be read.
    bool broken = false;   // A RST has come, or the network gave up.
  };
  // One direction.
  struct Way {
    // What went into it goes out before the flow. Null: nothing is in one.
    std::unique_ptr<Pipe> pipe;
    Flow flow;
    // The beginning of a message that the codec needs more of.
    std::string kept;
    uint64_t chance = 0;
    int full_reads = 0;          // In a row: bulk.
    Last last = Last::kNothing;  // How the source has ended.
    bool done = false;           // The end has been passed on.
    bool dropped = false;        // The destination is gone: what comes is thrown away.
    bool empty() const { return pipe == nullptr && flow.empty(); }
    // All that may go on has gone: there is nothing else but a goodbye that is kept back.
    bool passed() const { return pipe == nullptr && (flow.empty() || flow.stopped()); }
    void Drop() {
      dropped = true;
      pipe = nullptr;
      flow.Drop();
    }
  };

  void Connect();
  void Connected();
  void Refuse();
  void Go();
  void Settle();
  void PassOnFin(Direction direction);
  void PassOnReset(Direction direction);
  void Leak();
  void FinishCut();
  void FinishClose();
  bool WaitForUnsent(int fd);
  void SetAlarm();
  void SetStalled(bool stalled);
  void SetLeaking(bool leaking);
  void SetKept(bool kept);
  // The relay is over, and is destroyed after its turn.
  void Close(bool reset_client, bool reset_server);

  void Carry(Direction direction);
  size_t Room(Direction direction) const;
  // False when there was nothing to read.
  bool ReadSome(Direction direction, size_t room);
  // Without a copy; likewise.
  bool SpliceSome(Direction direction);
  bool MaySplice(Direction direction) const;
  // What a read of `count` says about the source; true for bytes.
  bool Came(Direction direction, ssize_t count);
  // The destination is gone.
  void Broke(Direction direction);
  void Look(Direction direction, absl::string_view bytes, Hold hold);
  Hold DrawHold(Direction direction);
  // False: the request cannot fail this way, and goes on.
  bool Fail(const v1::QueryFailure& failure, size_t rule, Hold hold);
  void CountFailed(const Rules& rules, size_t rule);
  // Writes at once, where nothing is in the way of it.
  void Emit(Direction direction, absl::string_view bytes, Hold hold);
  // A client's last words in front of `bytes` have been emitted; these are kept back, and what
  // comes behind them, until nothing is to leak any more.
  void KeepBack(absl::string_view bytes);
  // To be written by the next Drain().
  void Gather(Direction direction, absl::string_view bytes, Hold hold);
  // Bytes that the socket took; fewer than given: it takes no more.
  size_t Write(Direction direction, absl::string_view bytes);
  void Drain(Direction direction);
  void DrainPipe(Direction direction);
  void NoteCodec();
  Nanos Now();
  Nanos Arrived();

  Socket& source(Direction direction) { return sockets_[direction]; }
  const Socket& source(Direction direction) const { return sockets_[direction]; }
  Socket& destination(Direction direction) { return sockets_[1 - direction]; }
  const Socket& destination(Direction direction) const { return sockets_[1 - direction]; }

  Lane& lane_;
  const uint64_t id_;
  std::unique_ptr<Codec> codec_;  // Null when nobody looks at the bytes, or nobody can any more.
  Socket sockets_[2];             // By End.
  Way ways_[2];                   // By Direction; the source of the first is the client.
  Nanos now_ = 0;                 // Of this turn; 0 when nobody has asked yet.
  Nanos arrived_ = 0;             // Of what was read last; 0 likewise.
  Nanos patience_ = 0;            // Until when a reset waits for what was sent before it.
  Nanos grace_ = 0;               // Until when a server that was not told may close by itself.
  uint64_t unmatched_ = 0;        // Of the codec, so far.
  Stage stage_ = Stage::kWaiting;
  bool stalled_ = false;
  bool leak_ = false;     // By orders.
  bool leaking_ = false;  // The client has gone or said goodbye, and the server was not told.
  bool kept_ = false;     // And has kept the connection ever since, beyond the grace.
  Cut cut_ = Cut::kNo;
  // Of the latest request whose answer is to be cut: it has failed once that happens.
  struct PlannedCut {
    std::shared_ptr<const Rules> rules;
    size_t rule = 0;
  };
  std::unique_ptr<PlannedCut> planned_cut_;
  bool again_ = false;   // There is more to do after the others' turn.
  bool misled_ = false;  // By a codec that broke its promises.
  bool noted_encrypted_ = false;
  bool noted_lost_ = false;
};

}  // namespace firedrill::wire
