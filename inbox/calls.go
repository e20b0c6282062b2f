package inbox

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// calls answers those who are connected.
func (s *Store) calls() http.Handler {
	mux := http.NewServeMux()
	handle := func(name string, fn func(context.Context, *call, Progress) (any, error)) {
		mux.HandleFunc("POST "+callsPath+name, func(w http.ResponseWriter, r *http.Request) {
			c, ok := readCall(w, r)
			if !ok {
				return
			}
			send := sender(w)
			result, err := fn(r.Context(), c, func(done, total int) { send(reply{Done: done, Total: total}) })
			last := reply{}
			if err != nil {
				last.Error = toWire(err)
				last.Count, _ = result.(int)
			} else if last.Result, err = json.Marshal(result); err != nil {
				last.Error = toWire(err)
			}
			send(last)
		})
	}
	none := struct{}{}
	handle("hello", func(context.Context, *call, Progress) (any, error) { return none, nil })
	handle("list", func(ctx context.Context, c *call, _ Progress) (any, error) { return s.List(ctx, c.Filter, c.Page) })
	handle("audit", func(ctx context.Context, c *call, _ Progress) (any, error) { return s.Audit(ctx, c.Filter, c.Page) })
	handle("stats", func(ctx context.Context, _ *call, _ Progress) (any, error) { return s.Stats(ctx) })
	handle("routes", func(ctx context.Context, _ *call, _ Progress) (any, error) { return s.ListRoutes(ctx) })
	handle("pause", func(ctx context.Context, c *call, _ Progress) (any, error) { return none, s.Pause(ctx, c.Route, c.Who) })
	handle("resume", func(ctx context.Context, c *call, _ Progress) (any, error) {
		return none, s.Resume(ctx, c.Route, c.Who)
	})
	handle("retry", func(ctx context.Context, c *call, p Progress) (any, error) { return s.Retry(ctx, c.Filter, c.Who, p) })
	handle("drop", func(ctx context.Context, c *call, p Progress) (any, error) {
		return s.Drop(ctx, c.Filter, c.Who, c.Why, p)
	})
	handle("erase", func(ctx context.Context, c *call, _ Progress) (any, error) {
		return s.Erase(ctx, c.Kind, c.Value, c.Who, c.Why)
	})
	handle("drain", func(ctx context.Context, _ *call, p Progress) (any, error) { return none, s.Drain(ctx, p) })
	mux.HandleFunc("POST "+callsPath+"export", s.serveExport)
	return mux
}

// readCall reads a request. One that asks for something unknown is refused: to
// drop more than was asked for because a filter is not understood would be bad.
func readCall(w http.ResponseWriter, r *http.Request) (*call, bool) {
	c := new(call)
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(c); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		sender(w)(reply{Error: toWire(fmt.Errorf("inbox: the request is not understood: %w", err))})
		return nil, false
	}
	c.Page.Limit = min(c.Page.Limit, maxPage)
	return c, true
}

// sender returns a func that sends a line at once.
func sender(w http.ResponseWriter) func(reply) {
	encoder, flusher := json.NewEncoder(w), http.NewResponseController(w)
	return func(r reply) {
		// Who does not listen any more is found out by the context.
		_ = encoder.Encode(r)
		_ = flusher.Flush()
	}
}

func (s *Store) serveExport(w http.ResponseWriter, r *http.Request) {
	c, ok := readCall(w, r)
	if !ok {
		return
	}
	body, err := s.Export(r.Context(), c.UID, c.Who, c.Why)
	if err != nil {
		w.WriteHeader(http.StatusUnprocessableEntity)
		sender(w)(reply{Error: toWire(err)})
		return
	}
	defer body.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Trailer", errorTrailer)
	w.WriteHeader(http.StatusOK)
	if _, err := io.Copy(w, body); err != nil {
		toWire(err).setTrailer(w.Header())
	}
}
