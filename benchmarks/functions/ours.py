from adapter import StreamingAdapter
from app import app

handler = StreamingAdapter(app)
