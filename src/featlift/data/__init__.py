"""Pictures with objects. Every dataset here obeys :class:`featlift.data.contract.Pictures`; nothing here knows a
detector.
"""
