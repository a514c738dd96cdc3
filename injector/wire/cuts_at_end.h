// What a codec can do beside, whose answers may end with the server's close.
#pragma once

namespace firedrill::wire {

class CutsAtEnd {
 public:
  virtual ~CutsAtEnd() = default;
  // An answer that is to be cut has not ended: the server's end, which ends it, comes as the cut.
  virtual bool CutIsDue() const = 0;
};

}  // namespace firedrill::wire
