package reports

import (
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-klavi/caddy-klavi/handler/problem"
	"github.com/caddy-klavi/caddy-klavi/inbox"
	"github.com/caddy-klavi/caddy-klavi/klavi"
)

// refusal is why a request is not taken, for a report or at all.
type refusal struct {
	reason  string // for the metric: from a fixed list
	problem *problem.Problem
	err     error

	signed bool        // it is a report all the same
	report []zap.Field // which one it is
}

// ServeHTTP takes one webhook. It never calls the next handler.
func (h *Reports) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	received := time.Now()
	conn := http.NewResponseController(w)
	// This also bounds what the server reads of a body that is refused.
	// Where it is not possible, the time is looked at between reads.
	_ = conn.SetReadDeadline(received.Add(h.limits.body))

	signature, no := h.checkHead(w, r)
	if no != nil {
		h.refuse(w, r, no)
		return nil
	}
	if signature == nil && r.ContentLength == 0 {
		h.account.CountReportRefused("connectivity_test")
		writeOK(w)
		return nil
	}
	if h.Direct {
		return h.serve(w, r, signature, received, nil)
	}
	store, done, err := h.account.OpenInbox(r.Context()) // before the body is read for nothing
	if err != nil {
		h.refuse(w, r, notStored(err))
		return nil
	}
	defer done()
	return h.serve(w, r, signature, received, store)
}

// serve takes the body of a request: into the store, or to its routes at once where
// there is none.
func (h *Reports) serve(w http.ResponseWriter, r *http.Request, signature []byte, received time.Time, store *inbox.Store) error {
	body, no := h.takeBody(r, signature, received, store)
	if no != nil {
		h.refuse(w, r, no)
		return nil
	}
	defer body.release()

	rep := h.arrived(r, body)
	if store != nil {
		if no := h.keep(store, rep, body, received); no != nil {
			no.signed, no.report = true, rep.fields()
			h.refuse(w, r, no)
			return nil
		}
	} else if p := h.dispatch(r, rep, body, received); p != nil {
		p.Write(w)
		return nil
	}
	writeOK(w)
	return nil
}

// checkHead judges a request before any byte of its body is read. It returns
// the signature, or nil for a request that may go without: a connectivity test
// or one from unsigned_from.
func (h *Reports) checkHead(w http.ResponseWriter, r *http.Request) ([]byte, *refusal) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return nil, &refusal{reason: "method", problem: problem.New(problem.MethodNotAllowed, "Reports are sent with POST.")}
	}
	if r.ContentLength > h.MaxBody {
		return nil, h.tooLarge()
	}
	signature, err := klavi.ParseSignature(r.Header.Values(klavi.SignatureHeader))
	if errors.Is(err, klavi.ErrNoSignature) {
		if r.ContentLength == 0 || h.unsignedFrom.contain(clientAddr(r)) {
			return nil, nil
		}
		return nil, &refusal{reason: "no_signature", problem: problem.New(problem.SignatureInvalid, "A report needs the header "+klavi.SignatureHeader+"."), err: err}
	}
	if err != nil {
		return nil, &refusal{
			reason:  "malformed_signature",
			problem: problem.New(problem.SignatureInvalid, "The header "+klavi.SignatureHeader+" must be there once, with 64 hexadecimal digits."),
			err:     err,
		}
	}
	return signature, nil
}

// takeBody reads the body and checks its signature, if there must be one.
func (h *Reports) takeBody(r *http.Request, signature []byte, received time.Time, store *inbox.Store) (*body, *refusal) {
	in := intake{
		source:    r.Body,
		announced: r.ContentLength,
		max:       h.MaxBody,
		until:     received.Add(h.limits.body),
		patience:  patience{h.limits.room},
		limits:    h.limits,
		lane:      h.lane(r),
		newSpool:  func() (spool, error) { return newTempFile(h.limits.spoolDir) },
	}
	if store != nil {
		in.newSpool = func() (spool, error) { return newDraft(store) }
	}
	digest := sha256.New()
	in.check = digest
	var verifier *klavi.Verifier
	if signature != nil {
		var err error
		if verifier, err = klavi.NewVerifier(h.account.Secrets()...); err != nil {
			return nil, &refusal{reason: "no_key", problem: problem.New(problem.Internal, "The gateway has no key to check signatures with."), err: err}
		}
		in.check = verifier
		if store != nil {
			in.check = io.MultiWriter(verifier, digest)
		}
	}
	body, err := in.receive(r.Context())
	if err != nil {
		return nil, h.notReceived(err)
	}
	if verifier == nil || store != nil {
		body.setSum(digest)
	}
	if verifier == nil {
		body.identity, _ = body.sum()
		return body, nil
	}
	key, ok := verifier.Match(signature)
	if !ok {
		if store != nil && in.lane == klaviLane {
			h.quarantine(store, h.arrived(r, body), body, received)
		}
		body.release()
		return nil, &refusal{reason: "wrong_signature", problem: problem.New(problem.SignatureInvalid, "The signature is not one of this body."), err: errWrongSignature}
	}
	h.account.CountKey(key)
	copy(body.identity[:], signature)
	return body, nil
}

var errWrongSignature = errors.New("the signature fits none of the account's secret keys")

func (h *Reports) lane(r *http.Request) lane {
	if h.klaviSources.contain(clientAddr(r)) {
		return klaviLane
	}
	return othersLane
}

// retrySoon is what senders are told to wait. Klavi itself does not look at it.
const retrySoon = time.Second

func (h *Reports) notReceived(err error) *refusal {
	switch {
	case errors.Is(err, errTooLarge):
		return h.tooLarge()
	case errors.Is(err, errTooSlow):
		return &refusal{reason: "too_slow", problem: problem.New(problem.TooSlow, "A body has "+h.limits.body.String()+" to arrive."), err: err}
	case errors.Is(err, errNoRoom):
		p := problem.New(problem.Busy, "Too many bodies are arriving at once.")
		p.RetryAfter = retrySoon
		return &refusal{reason: "no_room", problem: p, err: err}
	case isOfInbox(err):
		return notStored(err)
	case errors.Is(err, errSpool):
		p := problem.New(problem.Busy, "The body cannot be kept at the moment.")
		p.RetryAfter = retrySoon
		return &refusal{reason: "no_disk", problem: p, err: err}
	default:
		return &refusal{reason: "incomplete", problem: problem.New(problem.InvalidRequest, "The body did not arrive as a whole."), err: err}
	}
}

func (h *Reports) tooLarge() *refusal {
	return &refusal{reason: "too_large", problem: problem.New(problem.TooLarge, "A body may have "+strconv.FormatInt(h.MaxBody, 10)+" bytes."), err: errTooLarge}
}

// refuse answers a request that is no report. What strangers do is of no
// interest; what Klavi's own addresses do may be a report that gets lost, and a
// disk that fails is ours. A database that is away says so by itself, once.
func (h *Reports) refuse(w http.ResponseWriter, r *http.Request, no *refusal) {
	h.account.CountReportRefused(no.reason)
	level := zap.DebugLevel
	message := "request refused that is no signed report"
	switch {
	case no.signed:
		message = "signed report refused"
	case isOfInbox(no.err):
		message = "request refused: the inbox takes no reports"
	}
	ours := errors.Is(no.err, errSpool) && !errors.Is(no.err, inbox.ErrFull) // the inbox says by itself when it is full
	if no.signed || ours || h.lane(r) == klaviLane {
		level = zap.ErrorLevel
	}
	if errors.Is(no.err, inbox.ErrAway) {
		level = zap.DebugLevel
	}
	if c := h.logger.Check(level, message); c != nil {
		c.Write(append(no.report, zap.String("reason", no.reason), zap.Stringer("client_ip", clientAddr(r)),
			zap.Int64("length", r.ContentLength), zap.Error(no.err))...)
	}
	if r.ProtoMajor == 1 && r.ContentLength != 0 {
		// Or else the server would ask for the body before it answers.
		w.Header().Set("Connection", "close")
	}
	no.problem.Write(w)
}

// writeOK answers exactly 200: Klavi sends again after any other status
// (docs.klavi.ai/link/lqUr-overview).
func writeOK(w http.ResponseWriter) {
	const body = `{"ok":true}` + "\n"
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	header.Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	_, _ = io.WriteString(w, body)
}

// encoded returns the encoding of the body, or "" where it is what it is.
func encoded(header http.Header) string {
	for _, values := range header["Content-Encoding"] {
		for value := range strings.SplitSeq(values, ",") {
			if value = strings.TrimSpace(value); value != "" && !strings.EqualFold(value, "identity") {
				return value
			}
		}
	}
	return ""
}
