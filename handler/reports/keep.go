package reports

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-klavi/caddy-klavi/handler/problem"
	"github.com/caddy-klavi/caddy-klavi/inbox"
	"github.com/caddy-klavi/caddy-klavi/klavi"
)

// draft is a body that is spooled into the inbox.
type draft struct{ *inbox.Draft }

func newDraft(store *inbox.Store) (*draft, error) {
	d, err := store.NewDraft()
	if err != nil {
		return nil, err
	}
	return &draft{d}, nil
}

func (d *draft) open() (io.ReadCloser, error) { return d.Open() }

func (d *draft) discard() { d.Abort() }

// draft returns the body as a draft of the store, which it may be already.
func (b *body) draft(store *inbox.Store) (*draft, error) {
	if d, ok := b.spooled.(*draft); ok {
		return d, nil
	}
	d, err := newDraft(store)
	if err != nil {
		return nil, err
	}
	if _, err := d.Write(b.data); err != nil {
		return nil, err
	}
	return d, nil
}

// keep stores a signed report. It returns nil once it is on disk.
func (h *Reports) keep(store *inbox.Store, rep *report, b *body, received time.Time) *refusal {
	envelope, err := b.envelope()
	head, reason, err := readHead(envelope, err, rep.sender, b.sha256, received)
	if err != nil {
		return notStored(err)
	}
	head.Meta = rep.sender.meta()
	rep.head = head
	d, err := b.draft(store)
	if err != nil {
		return notStored(err)
	}
	defer d.discard()
	// Klavi's connection may break: what is signed is stored all the same.
	ctx, cancel := context.WithTimeout(context.Background(), h.limits.commit)
	defer cancel()
	digest, _ := b.sum()
	receipt, err := d.Commit(ctx, head, digest)
	if err != nil {
		return notStored(err)
	}
	rep.uid = receipt.UID
	h.kept(rep, receipt, reason)
	return nil
}

// kept notes what became of a report that is on disk.
func (h *Reports) kept(rep *report, receipt inbox.Receipt, reason string) {
	level, result := zap.DebugLevel, "stored"
	switch {
	case receipt.Duplicate:
		result = "duplicate"
	case receipt.Erased:
		result = "erased"
	case rep.head.Kind == inbox.KindUnreadable:
		level, result = zap.ErrorLevel, "unreadable"
	case receipt.Conflict:
		level, result = zap.WarnLevel, "conflict"
	case receipt.Repeat:
		result = "repeat"
	}
	h.account.CountKept(result)
	if lost := h.withoutRoute(rep); len(lost) > 0 && result != "duplicate" && result != "erased" {
		h.account.CountUnroutable()
		h.logger.Error("signed report has no route: it waits until there is one",
			append(rep.fields(), zap.String("without_route", loggable(join(lost))))...)
	}
	if c := h.logger.Check(level, "report is kept"); c != nil {
		fields := append(rep.fields(), zap.String("result", result))
		if reason != "" {
			fields = append(fields, zap.String("reason", reason))
		}
		c.Write(fields...)
	}
}

// withoutRoute returns the type of the report, or the names of its events, for
// which there is no route.
func (h *Reports) withoutRoute(rep *report) (lost []string) {
	for _, subject := range rep.head.Subjects {
		if h.Route(rep.head.Kind, subject) == "" {
			lost = append(lost, subject)
		}
	}
	return lost
}

// quarantine keeps a body whose signature fits no key, although it comes from an
// address of Klavi's: Klavi's key may be newer than ours. Its sender is refused all
// the same.
func (h *Reports) quarantine(store *inbox.Store, rep *report, b *body, received time.Time) {
	ctx, cancel := context.WithTimeout(context.Background(), h.limits.commit)
	defer cancel()
	d, err := b.draft(store)
	if err == nil {
		defer d.discard()
		digest, _ := b.sum()
		err = d.Quarantine(ctx, rep.sender.Signature, received, rep.sender.meta(), digest)
	}
	if err != nil {
		h.account.CountKept("not_quarantined")
		h.logger.Error("a body with the signature of an unknown key, from an address of Klavi's, is not kept", append(rep.fields(), zap.Error(err))...)
		return
	}
	h.account.CountKept("quarantined")
	h.account.Quarantined()
	h.logger.Error("a body with the signature of an unknown key, from an address of Klavi's, is kept for a day: "+
		"it becomes a report once secret_key or accept_secret_keys has its key", rep.fields()...)
}

// isOfInbox reports whether the inbox is why a report was not taken.
func isOfInbox(err error) bool {
	for _, reason := range []error{inbox.ErrFull, inbox.ErrUnavailable, inbox.ErrDamaged, inbox.ErrLocked, inbox.ErrKey} {
		if errors.Is(err, reason) {
			return true
		}
	}
	return false
}

// notStored is the refusal of a report that the inbox does not take. What exactly
// is wrong is for the log.
func notStored(err error) *refusal {
	p := problem.New(problem.Busy, "Reports cannot be kept at the moment.")
	p.RetryAfter = retrySoon
	reason := "inbox_unavailable"
	if errors.Is(err, inbox.ErrFull) {
		reason = "inbox_full"
	}
	return &refusal{reason: reason, problem: p, err: err}
}

// Verify returns the head of a quarantined body if it fits a key of the account's
// now.
func (h *Reports) Verify(q *inbox.Quarantined) (*inbox.Head, error) {
	signature, err := klavi.ParseSignature([]string{q.Signature})
	if err != nil {
		return nil, nil //nolint:nilerr,nilnil // it never becomes a report
	}
	verifier, err := klavi.NewVerifier(h.account.Secrets()...)
	if err != nil {
		return nil, err
	}
	r, err := q.Body()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	envelope, unreadable := klavi.ReadEnvelope(io.TeeReader(r, verifier))
	if _, err := io.Copy(verifier, r); err != nil { // what is left of one that is no JSON
		return nil, err
	}
	key, ok := verifier.Match(signature)
	if !ok {
		return nil, nil //nolint:nilnil // still none
	}
	h.account.CountKey(key)
	var s sender
	_ = json.Unmarshal(q.Meta, &s) // what cannot be read is left out
	head, _, err := readHead(envelope, unreadable, s, func() string { return hex.EncodeToString(q.Digest[:]) }, q.Received)
	head.Meta = q.Meta
	return &head, err
}
